"use strict";
// What the report and the dashboard share. Texts of a source become text nodes, and nothing else.
const main = document.getElementById("main");
const SVG = "http://www.w3.org/2000/svg";

function add(parent, tag, text, attributes) {
  const element = document.createElement(tag);
  if (text !== undefined && text !== null) element.textContent = text;
  for (const [name, value] of Object.entries(attributes || {})) element.setAttribute(name, value);
  parent.append(element);
  return element;
}
function draw(parent, tag, attributes, text) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  parent.append(element);
  return element;
}
const whole = (number) => number.toLocaleString("en");
function size(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let unit = 0;
  while (bytes >= 1000 && unit < units.length - 1) { bytes /= 1000; unit += 1; }
  return `${unit ? bytes.toFixed(1) : bytes} ${units[unit]}`;
}
function duration(seconds) {
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}
// A run that ended is not good news if files failed.
function outcome(state, failed) {
  return state === "complete" && failed ? [`complete, ${whole(failed)} failed`, "failed"] : [state, state];
}
function section(title, text) {
  const part = add(main, "section");
  add(part, "h2", title);
  if (text) add(part, "p", text, {class: "muted"});
  return part;
}
function table(parent, columns, rows) {
  const made = add(add(parent, "div", null, {class: "scroll"}), "table");
  const head = add(add(made, "thead"), "tr");
  for (const [name, kind] of columns) add(head, "th", name, {scope: "col", class: kind || ""});
  const body = add(made, "tbody");
  for (const row of rows) {
    const line = add(body, "tr");
    row.forEach((value, i) => add(line, "td", value, {class: columns[i][1] || "", "data-name": columns[i][0]}));
  }
}
function bars(parent, rows, show) {
  const most = Math.max(1, ...rows.map((row) => row[1]));
  const made = add(parent, "div", null, {class: "bars"});
  for (const [name, value] of rows) {
    add(made, "span", name, {title: name});
    const bar = add(add(made, "div"), "i");
    bar.style.width = `${(100 * value) / most}%`;
    add(made, "span", show(value), {class: "number"});
  }
}
