"""Every word the pages say, in Russian and English: one catalogue.

Rules. A key has both languages (the type says so); a missing key is an error, never an empty place. Values are put in
by name. What is counted has its forms in `FORMS`, for Russian has three. Words of codes are built from the code's own
name (`state.posted`, `reason.conflict`), and tests walk every code.

Long because it is a table of words and little else; what administrators alone see is in web.site.admin_texts.

Does not know: HTML; templates escape what comes from here like everything else.
"""

from typing import Final

from billing.language import language_of
from web.site.admin_texts import CONTRACT, DETAILS

LANGUAGES: Final = ("ru", "en")

_Pair = tuple[str, str]

_GENERAL: Final[dict[str, _Pair]] = {
    "name": ("Kopeck", "Kopeck"),
    "language.name": ("Русский", "English"),
    "language.label": ("Язык", "Language"),
    "skip": ("К содержанию", "Skip to content"),
    "nav.label": ("Разделы", "Sections"),
    "nav.payments": ("Платежи", "Payments"),
    "nav.attempts": ("Запросы партнёров", "Partner requests"),
    "nav.partners": ("Партнёры", "Partners"),
    "nav.users": ("Пользователи", "Users"),
    "nav.audit": ("Аудит", "Audit"),
    "nav.profile": ("Профиль", "Profile"),
    "nav.sign_out": ("Выйти", "Sign out"),
    "none": ("—", "—"),
    "yes": ("да", "yes"),
    "no": ("нет", "no"),
    "apply": ("Применить", "Apply"),
    "reset": ("Сбросить фильтр", "Reset filter"),
    "paging.next": ("Раньше", "Older"),
    "paging.previous": ("Позже", "Newer"),
    "paging.go_on": ("Искать дальше", "Search on"),
    "paging.reached": (
        "Просмотрено до {instant}. Это ещё не весь период: дальше по кнопке «Искать дальше».",
        "Looked through to {instant}. That is not the whole period yet: “Search on” goes on from there.",
    ),
    "paging.reached_empty": ("Пока ничего не найдено", "Nothing found so far"),
    "paging.first": ("К началу", "To the newest"),
    "open": ("Открыть", "Open"),
    "details": ("Подробно", "Details"),
}

_SIGN_IN: Final[dict[str, _Pair]] = {
    "sign_in.title": ("Вход", "Sign in"),
    "sign_in.lead": ("Платежи и расчёты", "Payments and billing"),
    "sign_in.login": ("Логин", "Login"),
    "sign_in.password": ("Пароль", "Password"),
    "sign_in.button": ("Войти", "Sign in"),
    "sign_in.failed": ("Логин или пароль не подошли.", "Login and password do not match."),
    "sign_in.wait": (
        "Слишком много попыток. Следующая — через {seconds} с.",
        "Too many tries. The next one in {seconds} s.",
    ),
    "sign_in.expired": (
        "Временный пароль действовал {days} дней и истёк. Попросите администратора выдать новый.",
        "The temporary password was good for {days} days and has expired. Ask an administrator for a new one.",
    ),
    "sign_in.busy": (
        "Сейчас входит слишком много людей. Попробуйте через несколько секунд.",
        "Too many people are signing in at once. Try again in a few seconds.",
    ),
    "profile.title": ("Профиль", "Profile"),
    "profile.password": ("Смена пароля", "Change password"),
    "profile.current": ("Нынешний пароль", "Current password"),
    "profile.new": ("Новый пароль", "New password"),
    "profile.repeat": ("Новый пароль ещё раз", "New password again"),
    "profile.hint": (
        "Не короче {chars} знаков и без логина внутри. Другие сеансы будут завершены.",
        "At least {chars} characters, without the login inside. Other sessions will end.",
    ),
    "profile.temporary": (
        "Пароль выдан администратором. Придумайте свой, чтобы продолжить.",
        "This password was given by an administrator. Choose your own to go on.",
    ),
    "profile.button": ("Сменить пароль", "Change password"),
    "profile.changed": ("Пароль изменён, другие сеансы завершены.", "Password changed, other sessions ended."),
    "profile.wrong": ("Нынешний пароль не подошёл", "The current password does not match"),
    "profile.differ": ("Пароли не совпадают", "The passwords differ"),
    "profile.same": ("Новый пароль совпадает с нынешним", "The new password is the current one"),
}

_LISTS: Final[dict[str, _Pair]] = {
    "payments.title": ("Платежи", "Payments"),
    "payments.search": (
        "Номер, лицевой счёт, телефон, ключ партнёра, сумма",
        "Number, account, phone, partner's key, amount",
    ),
    "payments.empty": ("Платежи не найдены", "No payments found"),
    "list.empty": (
        "За период {period} под фильтр ничего не подходит.",
        "Nothing matches the filter in {period}.",
    ),
    "list.empty_query": (
        "За период {period} по запросу «{text}» ничего нет.",
        "There is nothing for “{text}” in {period}.",
    ),
    "list.search_year": ("Искать за год", "Search the whole year"),
    "payments.none_yet": ("За этот период платежей не было", "There were no payments in this period"),
    "payments.none_yet_hint": (
        "Период: {period}. Новые платежи появляются здесь через несколько секунд после приёма.",
        "Period: {period}. New payments appear here a few seconds after they are accepted.",
    ),
    "payments.exact_id": ("совпал номер", "number matches"),
    "payments.exact_key": ("совпал ключ партнёра", "partner's key matches"),
    "search.label": ("Поиск", "Search"),
    "search.button": ("Найти", "Search"),
    "search.hint": ("Нажмите / чтобы перейти к поиску", "Press / to go to the search box"),
    "filter.title": ("Фильтр", "Filter"),
    "filter.all_state": ("все состояния", "all states"),
    "filter.all_kind": ("все виды", "all kinds"),
    "filter.all_action": ("все действия", "all actions"),
    "filter.all_partner": ("все партнёры", "all partners"),
    "filter.period": ("Период", "Period"),
    "filter.period_received": ("Период получения", "Received in the period"),
    "filter.from": ("С", "From"),
    "filter.to": ("По", "To"),
    "filter.date_shape": ("дд.мм.гггг", "dd.mm.yyyy"),
    "filter.calendar": ("Выбрать в календаре", "Choose in a calendar"),
    "filter.zone": ("Время: {zone}", "Time zone: {zone}"),
    "filter.state": ("Состояние", "State"),
    "filter.partner": ("Партнёр", "Partner"),
    "filter.kind": ("Вид", "Kind"),
    "filter.action": ("Действие", "Action"),
    "filter.min": ("Сумма от", "Amount from"),
    "filter.max": ("Сумма до", "Amount to"),
    "filter.chosen": ("выбрано: {n}", "{n} chosen"),
    "period.today": ("Сегодня", "Today"),
    "period.yesterday": ("Вчера", "Yesterday"),
    "period.7d": ("7 дней", "7 days"),
    "period.30d": ("30 дней", "30 days"),
    "period.month": ("Этот месяц", "This month"),
    "period.last_month": ("Прошлый месяц", "Last month"),
    "period.year": ("Год", "Year"),
    "totals.label": ("Итоги по фильтру", "Totals of the filter"),
    "totals.found": ("Найдено", "Found"),
    "totals.no_sum": ("без суммы", "no amount"),
    "totals.not_counted": (
        "По тексту и суммам итоги не считаются. Они есть у периода, состояния и партнёра.",
        "A search by text or amount has no totals. A period, a state and a partner have.",
    ),
    "totals.shown_of": ("{shown} из {total}", "{shown} of {total}"),
    "totals.of": ("всего {total}", "{total} in all"),
    "export.button": ("Выгрузить CSV", "Export CSV"),
    "export.limit": ("до {n} строк", "up to {n} rows"),
    "export.cut": (
        "Здесь файл обрывается: больше {limit} строк выгрузить нельзя",
        "The file ends here: an export has {limit} rows at most",
    ),
    "export.too_many": (
        "Под фильтр подходит больше {limit} платежей — столько строк выгрузка не вмещает. Сузьте период.",
        "More than {limit} payments match, which is the limit of an export. Narrow the period.",
    ),
    "column.time": ("Время", "Time"),
    "column.received": ("Получен", "Received"),
    "column.id": ("№", "No."),
    "column.partner": ("Партнёр", "Partner"),
    "column.key": ("Ключ партнёра", "Partner's key"),
    "column.account": ("Лицевой счёт", "Account"),
    "column.name": ("Имя", "Name"),
    "column.sum": ("Сумма", "Amount"),
    "column.state": ("Состояние", "State"),
    "column.reason": ("Причина", "Reason"),
    "column.kind": ("Вид", "Kind"),
    "column.code": ("Код", "Code"),
    "column.what": ("Что произошло", "What happened"),
    "column.currency": ("Валюта", "Currency"),
    "column.service": ("Услуга", "Service"),
    "column.partner_time": ("Время у партнёра", "Partner's time"),
    "column.registered": ("Зарегистрирован", "Registered"),
    "column.state_code": ("Код состояния", "State code"),
    "attempts.title": ("Запросы партнёров", "Partner requests"),
    "attempts.lead": (
        "Повторы, отказы, конфликты и чужие запросы: ни одного платежа они не изменили.",
        "Repeats, refusals, conflicts and foreign requests: they changed no payment.",
    ),
    "attempts.search": (
        "Лицевой счёт, ключ партнёра, номер платежа, адрес",
        "Account, partner's key, payment No., address",
    ),
    "attempts.empty": ("Запросы не найдены", "No requests found"),
    "attempts.conflicts": (
        "За период есть конфликты: тот же ключ пришёл с другим содержанием. Их должен разобрать человек.",
        "The period has conflicts: the same key came with different contents. A person must look at them.",
    ),
    "attempts.show_conflicts": ("Показать конфликты", "Show conflicts"),
    "attempts.request": ("Текст запроса", "Text of the request"),
    "attempts.payment": ("Платёж № {id}", "Payment No. {id}"),
    "attempts.stranger": ("Неизвестный", "Unknown"),
    "attempts.address": ("Адрес", "Address"),
    "attempts.calls": ("Таких запросов за минуту: {n}", "Requests like this within a minute: {n}"),
}

_PAYMENT: Final[dict[str, _Pair]] = {
    "payment.title": ("Платёж № {id}", "Payment No. {id}"),
    "payment.back": ("К списку платежей", "Back to payments"),
    "payment.from": ("От кого", "From"),
    "payment.to": ("Кому", "To"),
    "payment.ids": ("Номера и время", "IDs and times"),
    "payment.id": ("Номер у нас", "Our number"),
    "payment.key": ("Ключ партнёра", "Partner's key"),
    "payment.protocol": ("Протокол", "Protocol"),
    "payment.service": ("Услуга", "Service"),
    "payment.partner_code": ("Код партнёра", "Partner's code"),
    "payment.code": ("Код ответа", "Reply code"),
    "payment.code_chip": ("код {code}", "code {code}"),
    "payment.code_last": ("Код последнего ответа", "Code of the last reply"),
    "payment.reason": ("Причина", "Reason"),
    "payment.reason_then": ("Ответ партнёру при приёме", "Reply when it was accepted"),
    "payment.registered": ("Зарегистрирован", "Registered"),
    "payment.partner_time": ("Время у партнёра", "Partner's time"),
    "payment.created": ("Получен", "Received"),
    "payment.updated": ("Изменён", "Changed"),
    "payment.extras": ("Дополнительные поля", "Extra fields"),
    "payment.of_account": ("Платежи этого лицевого счёта", "Payments of this account"),
    "payment.no_account": ("Такого лицевого счёта нет", "No such account"),
    "payment.tombstone": ("Отменён до прихода", "Cancelled before it arrived"),
    "payment.timeline": ("Ход платежа", "Timeline"),
    "payment.request": ("Запрос партнёра", "Partner's request"),
    "payment.reply": ("Наш ответ", "Our reply"),
    "payment.reply_note": (
        "Ответ составлен заново из сохранённого результата; подпись и данные для экрана плательщика не хранятся.",
        "The reply is worded again from the stored result; signature and data for the payer's screen are not kept.",
    ),
    "payment.note": ("Причина", "Reason"),
    "payment.transfers": ("Проводки", "Postings"),
    "payment.no_transfers": ("Деньги не двигались.", "No money moved."),
    "payment.debit": ("Дебет", "Debit"),
    "payment.credit": ("Кредит", "Credit"),
    "payment.step": ("Шаг", "Step"),
    "payment.attempts": ("Запросы по этому платежу", "Requests for this payment"),
    "payment.no_attempts": ("Повторов и конфликтов не было.", "There were no repeats or conflicts."),
    "payment.attempts_away": (
        "Журнал сейчас недоступен, поэтому запросы не показаны. Сам платёж прочитан из основной базы.",
        "The journal is away, so requests are not shown. The payment itself was read from the main database.",
    ),
    "payment.attempts_more": ("Показаны последние {n}.", "The last {n} are shown."),
    "payment.cancel": ("Вернуть платёж…", "Reverse payment…"),
    "payment.not_found": ("Платежа с таким номером нет", "There is no payment with this number"),
    "conflict.title": ("Конфликт: {what}", "Conflict: {what}"),
    "conflict.sum_posted": ("зачислено {was}, партнёр прислал {came}", "{was} posted, partner sent {came}"),
    "conflict.sum": ("в платеже {was}, партнёр прислал {came}", "the payment has {was}, partner sent {came}"),
    "conflict.account": (
        "в платеже лицевой счёт {was}, партнёр прислал {came}",
        "the payment has account {was}, partner sent {came}",
    ),
    "conflict.service": (
        "в платеже услуга {was}, партнёр прислал другую",
        "the payment has service {was}, partner sent another",
    ),
    "conflict.show": ("К запросу", "Show the request"),
    "cancel.title": ("Возврат платежа № {id}", "Reverse payment No. {id}"),
    "cancel.effect_reverse": (
        "{sum} будут списаны с лицевого счёта {account} и возвращены партнёру {partner}. Действие необратимо.",
        "{sum} will be taken from account {account} and given back to partner {partner}. This cannot be undone.",
    ),
    "cancel.effect_void": (
        "{sum} удержаны и ещё не зачислены; они вернутся партнёру {partner}, платёж будет аннулирован. "
        "Действие необратимо.",
        "{sum} are held and not yet posted; they go back to partner {partner}, and the payment is voided. "
        "This cannot be undone.",
    ),
    "cancel.balance_now": ("На лицевом счёте сейчас", "Balance now"),
    "cancel.balance_after": ("Станет после возврата", "Balance after"),
    "cancel.no_cover": (
        "На лицевом счёте меньше, чем сумма платежа, а уходить в долг ему нельзя: вернуть платёж сейчас не получится.",
        "The balance is less than the payment, and this account may not owe: the payment cannot be reversed now.",
    ),
    "cancel.may_owe": (
        "Понимаю, что после возврата лицевой счёт будет должен {sum}",
        "I understand that the account will owe {sum} afterwards",
    ),
    "cancel.error.may_owe": (
        "Подтвердите, что лицевой счёт может уйти в долг",
        "Confirm that the account may owe",
    ),
    "cancel.returned": (
        "С этого платежа уже сняли {sum} возвратом или переносом, поэтому целиком его не вернуть. "
        "Остаток возвращают командой kopeck account refund.",
        "{sum} of this payment were refunded or moved already, so it cannot be reversed as a whole. "
        "Refund what is left with kopeck account refund.",
    ),
    "cancel.reason": ("Причина возврата", "Reason"),
    "cancel.reason_hint": (
        "Её увидят в ходе платежа и в аудите. От {least} до {most} знаков.",
        "It will be seen in the timeline and in the audit record. {least} to {most} characters.",
    ),
    "cancel.confirm": (
        "Получатель и сумма проверены, возвращаю этот платёж",
        "I have checked recipient and amount, and reverse this payment",
    ),
    "cancel.button": ("Вернуть платёж на {sum}", "Reverse the payment of {sum}"),
    "cancel.leave": ("Не возвращать", "Do not reverse"),
    "cancel.error.reason": (
        "Напишите причину: от {least} до {most} знаков",
        "Write the reason: {least} to {most} characters",
    ),
    "cancel.error.confirm": ("Подтвердите, что проверили платёж", "Confirm that you have checked the payment"),
    "cancel.done": ("Платёж возвращён.", "The payment is reversed."),
    "cancel.done_void": ("Платёж аннулирован.", "The payment is voided."),
    "cancel.already": (
        "Платёж уже был возвращён раньше; второй раз ничего не произошло.",
        "The payment had been reversed before; nothing happened a second time.",
    ),
    "cancel.impossible": (
        "Платёж не возвращён: {reason}. Состояние не изменилось.",
        "The payment was not reversed: {reason}. Its state is unchanged.",
    ),
    "cancel.temporary": (
        "Ответа пока нет: возврат мог пройти или нет. Обновите страницу и при необходимости повторите — "
        "дважды платёж не вернётся.",
        "There is no answer yet: the reversal may or may not have happened. Reload the page and repeat if "
        "needed; a payment is never reversed twice.",
    ),
    "cancel.not_now": ("В этом состоянии платёж вернуть нельзя.", "In this state the payment cannot be reversed."),
}

_INVOICE: Final[dict[str, _Pair]] = {
    "invoice.not_found": ("Счёта с таким номером нет", "There is no invoice with this number"),
    "invoice.pdf": ("Скачать PDF", "Download PDF"),
    "invoice.unpaid": ("Не оплачено", "Unpaid"),
    "invoice.total": ("Сумма счёта", "Invoice total"),
    "invoice.suspended": (
        "Услуги, которые оплачивает лицевой счёт {account}, приостановлены за долг с {since}.",
        "Services that account {account} pays for have been suspended for debt since {since}.",
    ),
    "invoice.delayed": ("Отсрочка до {until} включительно: {reason}", "Put off through {until}: {reason}"),
    "invoice.credited": ("Уменьшено корректировками", "Credited"),
    "invoice_state.draft": ("проект", "draft"),
    "invoice_state.issued": ("выставлен", "issued"),
    "invoice_state.paid": ("оплачен", "paid"),
    "invoice_state.overdue": ("просрочен", "overdue"),
    "invoice_state.credited": ("скорректирован", "credited"),
}

_ADMIN: Final[dict[str, _Pair]] = {
    "partners.title": ("Партнёры", "Partners"),
    "partners.empty": ("Партнёров пока нет", "There are no partners yet"),
    "partners.empty_hint": (
        "Партнёра добавляет команда kopeck partner add.",
        "A partner is added by the command kopeck partner add.",
    ),
    "partners.pause": ("Приостановить", "Pause"),
    "partners.resume": ("Возобновить", "Resume"),
    "partners.pause_effect": (
        "Новые платежи партнёра будут получать временный отказ, пока вы его не возобновите.",
        "New payments of the partner will get the temporary refusal until you resume him.",
    ),
    "partners.paused_notice": ("Партнёр {partner} приостановлен.", "Partner {partner} is paused."),
    "partners.active_notice": ("Партнёр {partner} снова работает.", "Partner {partner} works again."),
    "partners.contract": ("Договор", "Contract"),
    "partners.version": ("Версия {n}", "Version {n}"),
    "partners.protocol": ("Протокол", "Protocol"),
    "partners.bounds": ("Лимиты платежа", "Payment limits"),
    "partners.state": ("Состояние", "State"),
    "partners.payments": ("Платежи партнёра", "Partner's payments"),
    "partners.not_found": ("Партнёра с таким кодом нет", "There is no partner with this code"),
    "partners.keys": ("Ключи", "Keys"),
    "partners.key_forgeable": (
        "{bits} бит: подделывается, поэтому не используется. Нужен ключ от 2048 бит.",
        "{bits} bits: it can be forged, so it is not used. Replace it by a key of 2048 bits or more.",
    ),
    "partners.key_short": (
        "{bits} бит: замените ключом от 2048 бит.",
        "{bits} bits: replace it by a key of 2048 bits or more.",
    ),
    "partners.key_shared": (
        "Этот же ключ у партнёров: {partners}. Запрос, подписанный для одного, примут и от имени другого.",
        "Partners with the same key: {partners}. A request signed for one is accepted for the other.",
    ),
    "partners.no_keys": ("Ключей нет.", "There are no keys."),
    "partners.balance": ("Взаиморасчёты", "Settlement balance"),
    "partners.balance_hint": ("Остатки на {time}", "Balances as of {time}"),
    "partners.owes_us": ("Партнёр должен нам", "Partner owes us"),
    "partners.we_owe": ("Мы должны партнёру", "We owe the partner"),
    "partners.even": ("Долгов нет", "Nothing owed"),
    "partners.total": ("Всего, {currency}", "Total, {currency}"),
    "partners.total_owe_us": ("Партнёры должны нам", "Partners owe us"),
    "partners.total_we_owe": ("Мы должны партнёрам", "We owe partners"),
    "partners.broken": (
        "Договор не читается: партнёр отключён, пока его не исправят",
        "The contract cannot be read: the partner is down until it is corrected",
    ),
    "purpose.verify": ("Проверка подписи партнёра", "Verifies the partner's signature"),
    "purpose.sign": ("Наша подпись", "Our signature"),
    "purpose.basic": ("Логин и пароль (Basic)", "Login and password (Basic)"),
    "purpose.secret": ("Общий секрет", "Shared secret"),
    "partners.key_forever": ("с {start}", "from {start}"),
    "partners.key_until": ("с {start} по {end}", "from {start} to {end}"),
    "partner_state.active": ("Работает", "Active"),
    "partner_state.paused": ("Приостановлен", "Paused"),
    "users.title": ("Пользователи", "Users"),
    "users.add": ("Добавить пользователя", "Add a user"),
    "users.add_button": ("Добавить", "Add"),
    "users.login": ("Логин", "Login"),
    "users.role": ("Роль", "Role"),
    "users.state": ("Состояние", "State"),
    "users.signed_in": ("Последний вход", "Last sign-in"),
    "users.actions": ("Действия", "Actions"),
    "users.never": ("не было", "never"),
    "users.set_role": ("Сменить роль", "Change role"),
    "users.disable": ("Отключить", "Disable"),
    "users.enable": ("Включить", "Enable"),
    "users.reset": ("Новый пароль", "New password"),
    "users.temporary": ("временный пароль", "temporary password"),
    "users.you": ("это вы", "you"),
    "users.not_yourself": (
        "Себя отключить или понизить нельзя: попросите другого администратора.",
        "You cannot disable or demote yourself: ask another administrator.",
    ),
    "users.password_once": ("Временный пароль для {login}:", "Temporary password for {login}:"),
    "users.password_once_hint": (
        "Он показан один раз. При первом входе его надо сменить.",
        "It is shown once. It must be replaced at the first sign-in.",
    ),
    "users.role_set": ("Роль пользователя {login}: {role}.", "Role of {login}: {role}."),
    "users.disabled": ("Пользователь {login} отключён, его сеансы завершены.", "{login} is disabled, sessions ended."),
    "users.enabled": ("Пользователь {login} включён.", "{login} is enabled."),
    "users.login_hint": (
        "Латинские буквы, цифры, точка, @, _ и дефис",
        "Latin letters, digits, dot, @, _ and hyphen",
    ),
    "user_state.active": ("Активен", "Active"),
    "user_state.disabled": ("Отключён", "Disabled"),
    "role.viewer": ("Наблюдатель", "Viewer"),
    "role.operator": ("Оператор", "Operator"),
    "role.administrator": ("Администратор", "Administrator"),
    "role.viewer.may": ("видит платежи", "sees payments"),
    "role.operator.may": ("видит, возвращает, выгружает", "sees, reverses, exports"),
    "role.administrator.may": (
        "ещё и управляет людьми и партнёрами",
        "also manages people and partners",
    ),
    "user.error.taken": ("Такой логин уже есть", "This login exists already"),
    "user.error.login": (
        "От 2 до 64 знаков: a–z, 0–9, точка, @, _ и дефис",
        "2 to 64 characters: a–z, 0–9, dot, @, _ and hyphen",
    ),
    "user.error.role": ("Такой роли нет", "There is no such role"),
    "user.error.state": ("Такого состояния нет", "There is no such state"),
    "user.error.short": ("Пароль слишком короткий", "The password is too short"),
    "user.error.long": ("Пароль слишком длинный", "The password is too long"),
    "user.error.login_inside": ("В пароле не должно быть логина", "The password must not contain the login"),
    "user.error.guessed": (
        "Такой пароль угадывают одним из первых. Возьмите несколько слов, не связанных между собой",
        "This password is among the first that are guessed. Take several unrelated words",
    ),
    "user.error.unknown": ("Такого пользователя нет", "There is no such user"),
    "audit.title": ("Аудит", "Audit"),
    "audit.lead": (
        "Кто что видел и делал. Записи нельзя изменить или удалить.",
        "Who saw and did what. Entries cannot be changed or deleted.",
    ),
    "audit.actor": ("Кто", "Who"),
    "audit.action": ("Действие", "Action"),
    "audit.object": ("Объект", "Object"),
    "audit.detail": ("Подробности", "Details"),
    "audit.address": ("Адрес", "Address"),
    "audit.object_hint": ("Номер платежа, код партнёра, логин", "Payment No., partner's code, login"),
    "audit.changes": ("Только изменения", "Changes only"),
    "audit.empty": ("Записей не найдено", "No entries found"),
}

_STATES: Final[dict[str, _Pair]] = {
    "state.refused": ("Отказан", "Refused"),
    "state.held": ("Удержан", "Held"),
    "state.sent": ("Отправлен", "Sent"),
    "state.unknown": ("Нет ответа", "Unknown"),
    "state.posted": ("Зачислен", "Posted"),
    "state.voided": ("Аннулирован", "Voided"),
    "state.reversed": ("Возвращён", "Reversed"),
    "event.accept": ("Принят и зачислен", "Accepted and posted"),
    "event.hold": ("Деньги удержаны", "Money held"),
    "event.refuse": ("Отказано", "Refused"),
    "event.tombstone": ("Отмена пришла раньше платежа", "Cancelled before it arrived"),
    "event.send": ("Отправлен получателю", "Sent on"),
    "event.silence": ("Ответа нет", "No answer"),
    "event.post": ("Зачислен", "Posted"),
    "event.void": ("Аннулирован, удержание снято", "Voided, hold released"),
    "event.reverse": ("Возвращён партнёру", "Reversed, given back to the partner"),
    "event.refund": ("Возврат с лицевого счёта вручную", "Refunded by hand"),
    "event.move": ("Перенесён на другой лицевой счёт вручную", "Moved to another account by hand"),
    "step.hold": ("Удержание", "Hold"),
    "step.post": ("Зачисление", "Post"),
    "step.void": ("Снятие", "Void"),
    "step.reverse": ("Возврат", "Reverse"),
    "step.refund": ("Возврат вручную", "Refund by hand"),
    "step.move": ("Перенос вручную", "Move by hand"),
    "op.check": ("Проверка", "Check"),
    "op.pay": ("Платёж", "Payment"),
    "op.confirm": ("Подтверждение", "Confirm"),
    "op.cancel": ("Отмена", "Cancel"),
    "op.status": ("Статус", "Status"),
    "op.balance": ("Баланс", "Balance"),
    "op.registry": ("Реестр", "Registry"),
    "op.notify": ("Уведомление", "Notify"),
    "kind.call": ("Вызов", "Call"),
    "kind.repeat": ("Повтор", "Repeat"),
    "kind.refusal": ("Отказ", "Refusal"),
    "kind.conflict": ("Конфликт", "Conflict"),
    "kind.bad_signature": ("Неверная подпись", "Bad signature"),
    "kind.bad_source": ("Чужой адрес", "Foreign address"),
    "kind.malformed": ("Не разобран", "Malformed"),
    "kind.overload": ("Перегрузка", "Overload"),
    "actor.partner": ("Партнёр {name}", "Partner {name}"),
    "actor.user": ("Сотрудник {name}", "User {name}"),
    "actor.system": ("Система: {name}", "System: {name}"),
    "actor.anonymous": ("Не вошедший", "Not signed in"),
}

_REASONS: Final[dict[str, _Pair]] = {
    "reason.ok": ("Успешно", "OK"),
    "reason.duplicate_ok": ("Повтор уже принятого", "Repeat of an accepted one"),
    "reason.in_progress": ("Ещё выполняется", "In progress"),
    "reason.temporary": ("Временно недоступно", "Temporarily unavailable"),
    "reason.bad_request": ("Неверный запрос", "Bad request"),
    "reason.unknown_verb": ("Неизвестная команда", "Unknown verb"),
    "reason.bad_signature": ("Неверная подпись", "Bad signature"),
    "reason.bad_source": ("Запрос с чужого адреса", "Foreign sender"),
    "reason.bad_service": ("Неизвестная услуга", "Unknown service"),
    "reason.bad_account_format": ("Неверный формат лицевого счёта", "Malformed account number"),
    "reason.account_not_found": ("Лицевой счёт не найден", "Account not found"),
    "reason.account_inactive": ("Лицевой счёт не действует", "Account is not active"),
    "reason.forbidden": ("Запрещено", "Forbidden"),
    "reason.bad_amount": ("Неверная сумма", "Bad amount"),
    "reason.amount_too_small": ("Сумма слишком мала", "Amount too small"),
    "reason.amount_too_large": ("Сумма слишком велика", "Amount too large"),
    "reason.bad_ext_id": ("Неверный ключ платежа", "Bad payment key"),
    "reason.bad_date": ("Неверная дата", "Bad date"),
    "reason.bad_extras": ("Неверные дополнительные поля", "Bad extra fields"),
    "reason.conflict": ("Тот же ключ с другим содержанием", "Same key, different contents"),
    "reason.payment_not_found": ("Платёж не найден", "Payment not found"),
    "reason.already_cancelled": ("Уже возвращён или аннулирован", "Already reversed or voided"),
    "reason.cancel_impossible": ("Возврат невозможен", "Reversal is impossible"),
    "reason.other": ("Другая причина", "Other"),
}

_ACTIONS: Final[dict[str, _Pair]] = {
    "action.signed_in": ("Вход", "Signed in"),
    "action.sign_in_failed": ("Неудачный вход", "Failed to sign in"),
    "action.signed_out": ("Выход", "Signed out"),
    "action.password_changed": ("Смена пароля", "Changed password"),
    "action.password_change_failed": ("Неудачная смена пароля", "Failed to change password"),
    "action.payments_listed": ("Просмотр списка платежей", "Listed payments"),
    "action.payment_viewed": ("Просмотр платежа", "Viewed payment"),
    "action.payment_cancel_asked": ("Запрос возврата платежа", "Asked to reverse payment"),
    "action.payment_cancelled": ("Ответ на возврат платежа", "Got the answer to a reversal"),
    "action.payments_exported": ("Выгрузка платежей", "Exported payments"),
    "action.attempts_listed": ("Просмотр запросов партнёров", "Listed partner requests"),
    "action.attempts_forgotten": ("Удаление старых запросов", "Deleted old partner requests"),
    "action.partners_listed": ("Просмотр партнёров", "Listed partners"),
    "action.partner_viewed": ("Просмотр договора", "Viewed contract"),
    "action.partner_added": ("Подключение партнёра", "Connected partner"),
    "action.partner_contract_set": ("Новая версия договора", "Set contract"),
    "action.partner_key_added": ("Добавление ключа партнёра", "Added partner key"),
    "action.partner_key_retired": ("Вывод ключа партнёра", "Retired partner key"),
    "action.partner_paused": ("Приостановка партнёра", "Paused partner"),
    "action.partner_resumed": ("Возобновление партнёра", "Resumed partner"),
    "action.invoice_viewed": ("Просмотр счёта", "Viewed invoice"),
    "action.catalogue_loaded": ("Загрузка каталога тарифов", "Loaded catalogue"),
    "action.customer_added": ("Новый клиент", "Added customer"),
    "action.customer_changed": ("Изменение клиента", "Changed customer"),
    "action.customer_moved": ("Смена родителя или плательщика", "Moved customer"),
    "action.customer_closed": ("Закрытие клиента", "Closed customer"),
    "action.customer_account_added": ("Ещё один лицевой счёт клиента", "Added account of customer"),
    "action.customers_imported": ("Загрузка клиентов из файла", "Imported customers"),
    "action.legal_entity_set": ("Изменение продавца", "Set legal entity"),
    "action.posting_requested": ("Запрос проводки вручную", "Asked for a posting by hand"),
    "action.posting_posted": ("Проводка вручную", "Posted by hand"),
    "action.posting_approved": ("Подтверждение проводки", "Approved a posting by hand"),
    "action.posting_rejected": ("Отказ в проводке", "Rejected a posting by hand"),
    "action.delivery_viewed": ("Просмотр доставки", "Viewed delivery"),
    "action.delivery_pushed": ("Проталкивание доставки", "Pushed delivery"),
    "action.delivery_resent": ("Повторная отправка", "Sent delivery again"),
    "action.delivery_settled": ("Отметка о доставке вручную", "Marked delivery as delivered"),
    "action.delivery_given_up": ("Отказ от доставки", "Gave delivery up"),
    "action.delivery_queue_held": ("Остановка очереди доставок", "Held queue of deliveries"),
    "action.delivery_queue_released": ("Запуск очереди доставок", "Released queue of deliveries"),
    "action.delivery_policy_set": ("Изменение правил доставки", "Set policy of deliveries"),
    "action.deliveries_forgotten": ("Удаление старых доставок", "Deleted old deliveries"),
    "action.webhook_added": ("Новый получатель вебхуков", "Added webhook endpoint"),
    "action.webhook_rotated": ("Замена секрета вебхуков", "Replaced secret of webhook endpoint"),
    "action.webhook_disabled": ("Отключение получателя вебхуков", "Disabled webhook endpoint"),
    "action.webhook_enabled": ("Включение получателя вебхуков", "Enabled webhook endpoint"),
    "action.webhook_tested": ("Проверка получателя вебхуков", "Sent test event to webhook endpoint"),
    "action.mail_tested": ("Пробное письмо", "Sent test letter"),
    "action.user_added": ("Новый пользователь", "Added user"),
    "action.user_role_set": ("Смена роли", "Changed role"),
    "action.user_state_set": ("Включение или отключение", "Enabled or disabled"),
    "action.user_password_reset": ("Выдача нового пароля", "Reset password"),
    "action.users_listed": ("Просмотр пользователей", "Listed users"),
    "action.audit_listed": ("Просмотр аудита", "Read the audit record"),
    "action.denied": ("Отказ в доступе", "Was denied"),
}

_ERRORS: Final[dict[str, _Pair]] = {
    "error.choice": ("Такого варианта нет", "There is no such choice"),
    "error.date": (
        "Такой даты нет. Пишите дд.мм.гггг",
        "There is no such date. Write dd.mm.yyyy",
    ),
    "error.dates_turned": ("Конец раньше начала", "The end is before the start"),
    "error.range_long": ("Не больше {days} дней за раз", "At most {days} days at a time"),
    "error.period": ("Такого периода нет", "There is no such period"),
    "error.sum": ("Это не сумма. Пишите 1 234,56", "This is not an amount. Write 1 234,56"),
    "error.sums_turned": ("Меньше нижней границы", "Below the lower bound"),
    "error.text_words": ("Не больше {words} слов", "At most {words} words"),
    "error.text_long": ("Не больше {chars} знаков", "At most {chars} characters"),
    "error.page": (
        "Ссылка на страницу списка испорчена. Начните с начала.",
        "The link to this page of the list is broken. Start from the newest.",
    ),
    "error.fields": ("Исправьте отмеченные поля.", "Correct the marked fields."),
    "error.400": ("Запрос не понят", "The request was not understood"),
    "error.403": ("Доступ закрыт", "Access denied"),
    "error.403.hint": (
        "Вашей роли это действие не разрешено. Если оно нужно по работе, попросите администратора.",
        "Your role does not allow this. If your work needs it, ask an administrator.",
    ),
    "error.csrf": (
        "Страница устарела. Откройте её заново и повторите действие.",
        "The page is out of date. Open it again and repeat.",
    ),
    "error.404": ("Такой страницы нет", "There is no such page"),
    "error.404.hint": ("Проверьте адрес или вернитесь к платежам.", "Check the address or go back to payments."),
    "error.405": ("Так страницу не открывают", "The page cannot be opened this way"),
    "error.500": ("Ошибка на нашей стороне", "Our mistake"),
    "error.500.hint": (
        "Она записана в журнал сервера под номером {id}. Платежи это не затронуло.",
        "It is in the server's log under {id}. Payments are not affected.",
    ),
    "error.other": ("Не получилось", "That did not work"),
    "away.journal": ("Журнал платежей сейчас недоступен", "The payment journal is away"),
    "away.journal.hint": (
        "Платежи по-прежнему принимаются и ничего не теряется: поиск догонит их сам, когда журнал вернётся. "
        "Отдельный платёж можно открыть по номеру уже сейчас.",
        "Payments are still being accepted and nothing is lost: search will catch up by itself when the journal is "
        "back. A single payment can be opened by its number even now.",
    ),
    "away.database": ("Основная база сейчас недоступна", "The main database is away"),
    "away.database.hint": (
        "Страницы вернутся вместе с базой. Партнёрам отвечает временный отказ, и они повторят свои платежи.",
        "The pages come back with the database. Partners get the temporary refusal and will repeat their payments.",
    ),
    "away.busy": ("Журнал не успел ответить", "The journal did not answer in time"),
    "away.busy.hint": (
        "Слишком большая выборка: сузьте период или добавьте условие. Приём платежей от этого не зависит.",
        "The selection is too large: narrow the period or add a condition. Accepting payments does not depend on this.",
    ),
    "away.retry": ("Попробовать ещё раз", "Try again"),
    "away.open_by_id": ("Номер платежа", "Payment number"),
}

CATALOGUE: Final[dict[str, _Pair]] = {
    **_GENERAL, **_SIGN_IN, **_LISTS, **_PAYMENT, **_INVOICE, **_ADMIN, **_STATES, **_REASONS, **_ACTIONS, **_ERRORS,
    **CONTRACT, **DETAILS,
}  # fmt: skip

#: Russian: 1, 2 to 4, 5 and more. English: one, many.
FORMS: Final[dict[str, tuple[tuple[str, str, str], tuple[str, str]]]] = {
    "payment": (("платёж", "платежа", "платежей"), ("payment", "payments")),
    "conflict": (("конфликт", "конфликта", "конфликтов"), ("conflict", "conflicts")),
}


class MissingText(LookupError):
    """A page asked for a key that the catalogue does not have: our own mistake."""


def text(language: str, key: str, **values: object) -> str:
    """The words of ``key`` with the values put in."""
    pair = CATALOGUE.get(key)
    if pair is None:
        return language_of(language).gettext(key, **values)
    return pair[LANGUAGES.index(language)].format(**values) if values else pair[LANGUAGES.index(language)]


def plural(language: str, noun: str, number: int) -> str:
    """The form of ``noun`` that goes with ``number``.

    >>> [plural("ru", "payment", number) for number in (1, 3, 11, 25, 101)]
    ['платёж', 'платежа', 'платежей', 'платежей', 'платёж']
    """
    russian, english = FORMS[noun]
    if language == "en":
        return english[0] if number == 1 else english[1]
    if number % 100 in (11, 12, 13, 14):
        return russian[2]
    return russian[0] if number % 10 == 1 else russian[1] if number % 10 in (2, 3, 4) else russian[2]


def choose_language(chosen: str | None, cookie: str | None, accepted: str) -> str:
    """The user's own choice, else the cookie's, else the best of Accept-Language, else Russian."""
    for wish in (chosen, cookie):
        if wish in LANGUAGES:
            return wish
    best, weight = LANGUAGES[0], 0
    for part in accepted.split(",")[:20]:
        name, _, parameters = part.strip().partition(";")
        quality = _thousandths(parameters)
        if (language := name.strip().lower()[:2]) in LANGUAGES and quality > weight:
            best, weight = language, quality
    return best


def _thousandths(parameters: str) -> int:
    """q=0.8 as 800; no q is 1000; an unreadable one is 0 (RFC 9110, section 12.4.2)."""
    name, _, value = parameters.strip().partition("=")
    if not name:
        return 1000
    whole, _, fraction = value.strip().partition(".")
    digits = fraction.ljust(3, "0")
    if name.strip() != "q" or whole not in ("0", "1") or not (digits.isascii() and digits.isdigit()) or len(digits) > 3:
        return 0
    return min(int(whole) * 1000 + int(digits), 1000)
