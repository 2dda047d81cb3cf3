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
    row.forEach((value, i) => add(line, "td", value, {class: columns[i][1] || ""}));
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
const hostName = (host) => host || "other hosts";
const moment = (seconds) => new Date(seconds * 1000).toISOString().slice(0, 19).replace("T", " ");

// Bytes per second: intervals in which a run worked side by side, hosts on top of each other.
function rateChart(parent, rates) {
  const width = Math.max(280, parent.clientWidth), height = 210, left = 74, top = 12, base = height - 24;
  const seconds = rates.intervals.reduce((sum, one) => sum + one[1], 0);
  const totals = rates.intervals.map((one) => one[2].reduce((sum, bytes) => sum + bytes, 0));
  const most = Math.max(1, ...totals.map((bytes, i) => bytes / rates.intervals[i][1]));
  const picture = draw(parent, "svg", {viewBox: `0 0 ${width} ${height}`, role: "img"});
  draw(picture, "title", {}, `Bytes per second over time, at most ${size(Math.round(most))} per second`);
  const exact = most / 4, power = 10 ** Math.floor(Math.log10(exact));
  const step = [1, 2, 5, 10].map((one) => one * power).find((one) => one >= exact);
  const y = (rate) => base - (rate * (base - top)) / (Math.ceil(most / step) * step);
  for (let at = 0; at <= most + step * 0.999; at += step) {
    draw(picture, "path", {d: `M${left} ${y(at)}H${width}`, class: "grid"});
    draw(picture, "text", {x: left - 6, y: y(at) + 4, "text-anchor": "end"}, `${size(Math.round(at))}/s`);
  }
  const edges = [left];
  for (const one of rates.intervals) edges.push(edges[edges.length - 1] + (one[1] * (width - left)) / seconds);
  const floor = rates.intervals.map(() => 0);
  rates.hosts.forEach((_, host) => {
    const below = [], above = [];
    rates.intervals.forEach((one, i) => {
      const low = y(floor[i]);
      floor[i] += one[2][host] / one[1];
      above.push(`${edges[i].toFixed(1)} ${y(floor[i]).toFixed(1)}H${edges[i + 1].toFixed(1)}`);
      below.unshift(`${edges[i + 1].toFixed(1)} ${low.toFixed(1)}H${edges[i].toFixed(1)}`);
    });
    draw(picture, "path", {d: `M${[...above, ...below].join("L")}Z`, class: `c${host}`});
  });
  const labels = Math.max(1, Math.min(6, Math.floor((width - left) / 130)));
  let next = left, day = "";
  rates.intervals.forEach((one, i) => {
    if (edges[i] >= next - 0.01 && (edges[i] <= width - 110 || i === 0)) {
      const [date, time] = moment(one[0]).split(" ");
      draw(picture, "text", {x: edges[i], y: height - 8}, `${date === day ? "" : `${date} `}${seconds < 3600 ? time : time.slice(0, 5)}`);
      day = date;
      next = edges[i] + (width - left) / labels;
    }
    const before = rates.intervals[i - 1];
    if (before && one[0] - before[0] - before[1] > 60) draw(picture, "path", {d: `M${edges[i]} ${top}V${base}`, class: "pause"});
    const hover = draw(picture, "rect", {x: edges[i], y: top, width: edges[i + 1] - edges[i], height: base - top, class: "hover"});
    const byHost = rates.hosts.map((host, h) => `${hostName(host)}: ${size(Math.round(one[2][h] / one[1]))}/s`);
    draw(hover, "title", {}, [`${moment(one[0])} UTC, ${duration(one[1])}`, ...byHost].join("\n"));
  });
  const keys = add(parent, "ul", null, {class: "keys"});
  rates.hosts.forEach((host, h) => {
    const line = add(keys, "li");
    add(line, "i", null, {class: `c${h}`});
    line.append(`${hostName(host)} · ${size(rates.intervals.reduce((sum, one) => sum + one[2][h], 0))}`);
  });
}
