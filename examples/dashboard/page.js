// Rows of `data` are arrays: scores (company, label, probability, hasLabel, corrected) and
// changes (company, label, run, entered, reason, old and new probability, old and new threshold).
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const REASONS = {
  text: "its text changed", model: "another model", threshold: "another threshold",
  correction: "an analyst's correction", new: "new company", removed: "no longer in the source",
};
const ROWS = matchMedia("(max-width: 46rem)").matches ? 20 : 200;
const state = { label: null, minimum: null, sort: "probability", descending: true, rows: ROWS };

const byId = id => document.getElementById(id);
const digits = number => number === null ? "–" : number.toFixed(3);
const time = seconds => new Date(seconds * 1000).toISOString().slice(0, 16).replace("T", " ");
const nameOf = company => data.companies[company][1] ?? data.companies[company][0];
const scoresOf = group(data.scores, 1), labelsOf = group(data.scores, 0);
const changesOf = group(data.changes, 1), changesOfCompany = group(data.changes, 0);

function group(rows, column) {
  const groups = new Map();
  for (const row of rows) {
    if (!groups.has(row[column])) groups.set(row[column], []);
    groups.get(row[column]).push(row);
  }
  return groups;
}

// Texts of companies are added as text nodes only, so that they are never read as HTML.
function element(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function cell(className, ...children) { return element("td", { className }, ...children); }

function companyButton(company) {
  return element("button", { type: "button", dir: "auto", onclick: () => showWhy(company) }, nameOf(company));
}

function bar(probability, threshold) {
  const box = element("span", { className: "bar", ariaHidden: "true" }, element("i"), element("b"));
  box.firstChild.style.width = `${100 * probability}%`;
  box.lastChild.style.left = `${100 * threshold}%`;
  return box;
}

// The rule of screen(label, min_probability): a correction counts more than the probability. Both are 32-bit.
function isShown([, , probability, hasLabel, corrected]) {
  if (state.minimum === null) return hasLabel;
  return corrected ?? Math.fround(probability) >= Math.fround(state.minimum);
}

function screenRows() {
  const entered = (changesOf.get(state.label) ?? []).filter(change => change[3]).reverse();
  const since = new Map(entered.map(([company, , run]) => [company, data.runs[run][1]]));  // the newest entry stays
  const words = byId("filter").value.toLowerCase();
  const order = (a, b) => (a < b ? -1 : a > b ? 1 : 0), direction = state.descending ? -1 : 1;
  return (scoresOf.get(state.label) ?? []).filter(isShown)
    .map(([company, , probability, hasLabel, corrected]) => ({
      company, probability, hasLabel, corrected, key: data.companies[company][0], name: nameOf(company),
      since: hasLabel ? since.get(company) ?? 0 : 0,
    }))
    .filter(row => `${row.name}\n${row.key}`.toLowerCase().includes(words))
    .sort((a, b) => direction * order(a[state.sort], b[state.sort]) || order(a.company, b.company));
}

function heading(field, text) {
  const sort = () => {
    state.descending = state.sort === field ? !state.descending : field !== "name";
    state.sort = field;
    showScreen();
  };
  const direction = state.sort !== field ? "none" : state.descending ? "descending" : "ascending";
  const arrow = { none: "", descending: " ▼", ascending: " ▲" }[direction];
  return element("th", { scope: "col", ariaSort: direction },
    element("button", { type: "button", onclick: sort }, text + arrow));
}

function screenRow(row, threshold) {
  const company = cell("", companyButton(row.company));
  if (row.corrected !== null) company.append(" ", element("span", { className: "badge" }, "corrected"));
  const made = element("tr", { className: row.hasLabel ? "" : "below" }, company,
    cell("probability", bar(row.probability, threshold), digits(row.probability)),
    cell("since", row.since ? time(row.since).slice(0, 10) : row.hasLabel ? "earlier" : "no label"));
  made.dataset.key = row.key;
  return made;
}

function showScreen() {
  const [label, threshold] = data.labels[state.label], rows = screenRows(), count = rows.length.toLocaleString("en");
  byId("screen-title").textContent = `${label}: ${count} ${rows.length === 1 ? "company" : "companies"}`;
  byId("screen-note").textContent = threshold === null ? "The champion does not have this label."
    : `Companies have the label from probability ${digits(threshold)} on, or by a correction.`;
  byId("sql").textContent = `SELECT * FROM screen('${label.replaceAll("'", "''")}', ${state.minimum ?? "NULL"})`;
  byId("screen").tHead.rows[0].replaceChildren(
    heading("name", "company"), heading("probability", "probability"), heading("since", "since"));
  byId("screen").tBodies[0].replaceChildren(...rows.slice(0, state.rows).map(row => screenRow(row, threshold)));
  byId("more").hidden = rows.length <= state.rows;
  byId("more").textContent = `Show all ${count}`;
}

function historyRows([id, started], changes, companies) {
  const entered = changes.filter(change => change[3]), left = changes.filter(change => !change[3]);
  const items = [...entered, ...left].map(([company, , , isEntry, reason]) => element("li", {},
    element("span", { className: isEntry ? "in" : "out" }, isEntry ? "▲ " : "▼ "),
    companyButton(company), ` ${REASONS[reason]}`));
  const list = element("tr", { hidden: true },
    element("td", { colSpan: 4 }, element("ul", { className: "list" }, ...items)));
  const toggle = element("button", { type: "button", ariaExpanded: "false" }, time(started));
  toggle.onclick = () => { list.hidden = !list.hidden; toggle.ariaExpanded = String(!list.hidden); };
  const made = element("tr", {}, cell("", changes.length ? toggle : time(started)),
    cell(`number ${entered.length ? "in" : "quiet"}`, entered.length ? `▲ ${entered.length}` : "–"),
    cell(`number ${left.length ? "out" : "quiet"}`, left.length ? `▼ ${left.length}` : "–"),
    cell("number", companies.toLocaleString("en")));
  made.dataset.run = id;
  return [made, list];
}

function showHistory() {
  const ofRun = group(changesOf.get(state.label) ?? [], 2);
  let companies = (scoresOf.get(state.label) ?? []).filter(score => score[3]).length;  // now, then before each run
  byId("history").tBodies[0].replaceChildren(...data.runs.flatMap((run, position) => {
    const changes = ofRun.get(position) ?? [], rows = historyRows(run, changes, companies);
    for (const change of changes) companies += change[3] ? -1 : 1;
    return rows;
  }));
}

function changeRow([, label, run, entered, reason, before, after, thresholdBefore, threshold]) {
  const thresholds = [...new Set([thresholdBefore, threshold])].filter(each => each !== null);
  return element("tr", {}, cell("", time(data.runs[run][1])),
    cell(entered ? "in" : "out", `${entered ? "▲ entered" : "▼ left"} ${data.labels[label][0]}`),
    cell("", REASONS[reason]),
    cell("number", `${digits(before)} → ${digits(after)}`),
    cell("number", thresholds.map(digits).join(" → ")));
}

function showWhy(company) {
  const page = byId("why"), changes = changesOfCompany.get(company) ?? [];
  const labels = (labelsOf.get(company) ?? []).filter(score => score[3])
    .map(score => `${data.labels[score[1]][0]} ${digits(score[2])}${score[4] ? " (corrected)" : ""}`);
  const names = ["run", "change", "why", "probability", "threshold"].map(name => element("th", {}, name));
  page.replaceChildren(
    element("header", {}, element("h2", { id: "company", dir: "auto" }, nameOf(company)),
      element("button", { type: "button", className: "more", onclick: () => page.close() }, "Close")),
    element("p", { className: "quiet" }, `Key ${data.companies[company][0]}`),
    element("h3", {}, "Labels now"), element("p", {}, labels.join(", ") || "None."),
    element("h3", {}, "Changes"),
    changes.length ? element("table", {}, element("thead", {}, element("tr", {}, ...names)),
      element("tbody", {}, ...changes.map(changeRow)))
      : element("p", {}, `None in the last ${data.runs.length} runs.`));
  page.showModal();
}

function showLabel(label, minimum) {
  const isOther = label !== state.label;
  state.label = label;
  state.minimum = minimum;
  state.rows = ROWS;
  const [name, threshold] = data.labels[label];
  byId("label").value = label;
  byId("minimum").value = minimum ?? threshold ?? data.min_probability;
  byId("shown").textContent = digits(minimum ?? threshold);
  byId("reset").hidden = minimum === null;
  const address = new URLSearchParams({ label: name });
  if (minimum !== null) address.set("min", minimum);
  history.replaceState(null, "", `#${address}`);
  showScreen();
  if (isOther) showHistory();
}

function showAddress() {
  const address = new URLSearchParams(location.hash.slice(1)), minimum = address.get("min");
  const label = data.labels.findIndex(([name]) => name === address.get("label"));
  showLabel(Math.max(0, label), minimum === null ? null : Math.max(data.min_probability, Number(minimum) || 0));
}

byId("about").textContent =
  `Model ${data.model}. Last run ${time(data.runs[0][1])} UTC, page written ${data.written}.`;
byId("label").append(...data.labels.map(([name], label) => element("option", { value: label }, name)));
byId("minimum").min = data.min_probability;
byId("label").onchange = () => showLabel(Number(byId("label").value), null);
byId("minimum").oninput = () => showLabel(state.label, Number(byId("minimum").value));
byId("reset").onclick = () => showLabel(state.label, null);
byId("filter").oninput = () => { state.rows = ROWS; showScreen(); };
byId("more").onclick = () => { state.rows = Infinity; showScreen(); };
window.onhashchange = showAddress;
showAddress();
