// Comfort only: every page works without this file. No data is fetched and nothing is stored.
"use strict";

const typing = (element) => element.closest("input, textarea, select, [contenteditable]") !== null;

// "/" goes to the search box.
document.addEventListener("keydown", (event) => {
  const search = document.getElementById("q");
  if (event.key === "/" && search && !event.ctrlKey && !event.metaKey && !event.altKey && !typing(event.target)) {
    event.preventDefault();
    search.focus();
    search.select();
  }
});

// Lists of choices close on Escape, on a click elsewhere, and when another opens; the button then says what is chosen.
const choices = [...document.querySelectorAll("details.choice")];
document.addEventListener("click", (event) => {
  choices.filter((choice) => choice.open && !choice.contains(event.target)).forEach((choice) => { choice.open = false; });
});
document.addEventListener("keydown", (event) => {
  const open = choices.find((choice) => choice.open);
  if (event.key === "Escape" && open) {
    open.open = false;
    open.querySelector("summary").focus();
  }
});

// On a phone the filter starts closed, unless something in it must be corrected.
const narrow = window.matchMedia("(max-width: 48rem)");
document.querySelectorAll("details[data-narrow-closed]").forEach((details) => {
  const fit = () => { details.open = !narrow.matches || "hasErrors" in details.dataset; };
  fit();
  narrow.addEventListener("change", fit);
});

// A form that moves money or people is sent once; coming back by "back" makes it usable again.
document.querySelectorAll("form[data-once]").forEach((form) => {
  form.addEventListener("submit", () => {
    setTimeout(() => form.querySelectorAll("button").forEach((button) => { button.disabled = true; }));
  });
});
window.addEventListener("pageshow", () => {
  document.querySelectorAll("form[data-once] button").forEach((button) => { button.disabled = false; });
});

// Typing a date stays possible; the browser's calendar helps who prefers to point.
const calendarIcon = `<svg viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="1.8" aria-hidden="true"><rect x="3.5" y="5" width="17" height="15.5" rx="2"/><path d="M3.5 10h17M8 2.8V7M16 2.8V7"/></svg>`;
document.querySelectorAll("input[data-calendar]").forEach((input) => {
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
});
