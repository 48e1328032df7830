// Comfort only: every page works without this file. Nothing is stored, and data is fetched by htmx alone, from this site.
"use strict";

const typing = (element) => element.closest("input, textarea, select, [contenteditable]") !== null;

// "/" goes to the search box: the one of the whole console, else the list's.
document.addEventListener("keydown", (event) => {
  const search = document.getElementById("search") ?? document.getElementById("q");
  if (event.key === "/" && search && !event.ctrlKey && !event.metaKey && !event.altKey && !typing(event.target)) {
    event.preventDefault();
    search.focus();
    search.select();
  }
});

// Lists of choices close on Escape, on a click elsewhere, and when another opens; the button then says what is chosen.
const openChoices = () => [...document.querySelectorAll("details.choice[open]")];
document.addEventListener("click", (event) => {
  openChoices().filter((choice) => !choice.contains(event.target)).forEach((choice) => { choice.open = false; });
});
document.addEventListener("keydown", (event) => {
  const [open] = event.key === "Escape" ? openChoices() : [];
  if (open) {
    open.open = false;
    open.querySelector("summary").focus();
  }
});

// A form that moves money or people is sent once; coming back by "back" makes it usable again.
document.addEventListener("submit", (event) => {
  if (event.target.matches("form[data-once]")) {
    setTimeout(() => event.target.querySelectorAll("button").forEach((button) => { button.disabled = true; }));
  }
});
window.addEventListener("pageshow", () => {
  document.querySelectorAll("form[data-once] button").forEach((button) => { button.disabled = false; });
});

// On a phone a filter starts folded, unless something in it must be corrected.
const narrow = window.matchMedia("(max-width: 48rem)");
const fit = (details) => { details.open = !narrow.matches || "hasErrors" in details.dataset; };
narrow.addEventListener("change", () => document.querySelectorAll("details[data-narrow-closed]").forEach(fit));

// Typing a date stays possible; the browser's calendar helps who prefers to point.
const calendarIcon = `<svg class="icon" viewBox="0 0 24 24" aria-hidden="true"><rect x="3" y="4" width="18" height="18" rx="2"/><path d="M8 2v4M16 2v4M3 10h18"/></svg>`;
const addCalendar = (input) => {
  const picker = document.createElement("input");
  if (!("showPicker" in picker)) {
    return;
  }
  picker.type = "date";
  picker.className = "date-picker";
  picker.tabIndex = -1;
  picker.setAttribute("aria-hidden", "true");
  const button = document.createElement("button");
  button.type = "button";
  button.className = "date-button";
  button.innerHTML = calendarIcon;
  button.title = input.dataset.calendar;
  button.setAttribute("aria-label", input.dataset.calendar);
  button.addEventListener("click", () => {
    const typed = /^(\d{1,2})\.(\d{1,2})\.(\d{4})$/.exec(input.value);
    picker.value = typed ? `${typed[3]}-${typed[2].padStart(2, "0")}-${typed[1].padStart(2, "0")}` : "";
    picker.showPicker();
  });
  picker.addEventListener("change", () => {
    if (picker.value) {
      input.value = picker.value.split("-").reverse().join(".");
    }
  });
  input.after(picker, button);
};

// What is done to a page, and again to the part of it that htmx put in.
const enhance = (root) => {
  root.querySelectorAll("details[data-narrow-closed]").forEach(fit);
  root.querySelectorAll("input[data-calendar]").forEach(addCalendar);
  root.querySelector("[data-focus]")?.focus();
};
enhance(document);
document.addEventListener("htmx:afterSwap", (event) => {
  const list = document.getElementById("list");
  if (list && event.detail.target.id === "list") {
    enhance(list);
  }
});

// Requests of htmx carry the token of the session. An answer that is not the list asked for (a database is away, a
// mistake of ours) is opened as the page it is. Where the session has ended the server says where to go (HX-Redirect).
document.addEventListener("htmx:configRequest", (event) => {
  event.detail.headers["X-CSRF-Token"] = document.querySelector("meta[name=csrf]").content;
});
document.addEventListener("htmx:beforeSwap", (event) => {
  const { target, xhr, serverResponse } = event.detail;
  if (target.id === "list" && !serverResponse.includes('id="list"')) {
    event.detail.shouldSwap = false;
    window.location.assign(xhr.responseURL || event.detail.pathInfo.requestPath);
  }
});
document.addEventListener("htmx:sendError", (event) => window.location.assign(event.detail.pathInfo.requestPath));
