const data = JSON.parse(document.getElementById("data").textContent);
// Seven stops of the viridis colour map, which stays legible without colour vision and in grey.
const VIRIDIS = [[68, 1, 84], [70, 50, 127], [54, 92, 141], [39, 127, 142], [31, 161, 135], [74, 194, 109], [253, 231, 37]];

function colour(share) {
  const at = Math.min(1, Math.max(0, share)) * (VIRIDIS.length - 1);
  const low = Math.min(VIRIDIS.length - 2, Math.floor(at));
  const mix = (i) => Math.round(VIRIDIS[low][i] + (VIRIDIS[low + 1][i] - VIRIDIS[low][i]) * (at - low));
  return `rgb(${mix(0)} ${mix(1)} ${mix(2)})`;
}
// Counts span orders of magnitude: colours follow their logarithm.
const shade = (count, most) => colour(most > 1 ? Math.log(count) / Math.log(most) : 1);

// Draw cells [x, y, width, height, count, text] as one path for each colour: thousands of elements are slow. The text of
// the cell under the pointer is shown below.
function cells(parent, picture, list, most) {
  const paths = {};
  for (const [x, y, width, height, count] of list) {
    const fill = shade(count, most);
    (paths[fill] ||= []).push(`M${x.toFixed(2)} ${y.toFixed(2)}h${width.toFixed(2)}v${height.toFixed(2)}h${-width.toFixed(2)}z`);
  }
  for (const [fill, path] of Object.entries(paths)) draw(picture, "path", {d: path.join(""), fill, class: "cell"});
  legend(parent, most);
  const under = add(parent, "p", "Point at a cell to see its numbers.", {class: "muted"});
  picture.addEventListener("pointermove", (event) => {
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(picture.getScreenCTM().inverse());
    const hit = list.find(([x, y, width, height]) => at.x >= x && at.x < x + width && at.y >= y && at.y < y + height);
    if (hit) under.textContent = hit[5];
  });
}
function legend(parent, most) {
  const line = add(parent, "div", null, {class: "legend"});
  add(line, "span", "1");
  const scale = add(line, "canvas", null, {width: 120, height: 1, role: "img", "aria-label": "Colour scale"});
  const context = scale.getContext("2d");
  for (let x = 0; x < 120; x += 1) { context.fillStyle = colour(x / 119); context.fillRect(x, 0, 1, 1); }
  add(line, "span", `${whole(most)} items (logarithmic)`);
}

function header() {
  document.getElementById("title").textContent = data.title;
  const lead = document.getElementById("lead");
  const [state, look] = outcome(data.state, data.failed);
  add(lead, "span", state, {class: `state ${look}`});
  lead.append(` · from ${data.source} · written ${data.written}`);
  const numbers = add(main, "div", null, {class: "numbers"});
  const shown = [["items", data.items], ["files", data.files], ["failed", data.failed], ["pending", data.pending]];
  const add_number = (name, value) => { const one = add(numbers, "div"); add(one, "b", value); one.append(name); };
  add_number("bytes", size(data.bytes));
  for (const [name, value] of shown) add_number(name, whole(value));
}
function collections() {
  const left = data.collections_left_out ? `${whole(data.collections_left_out)} more collections are left out.` : "";
  const part = section("Collections", left);
  table(part, [["Collection"], ["Title"], ["Licence"], ["Items", "number"], ["Files", "number"], ["Bytes", "number"]],
    data.collections.map((c) => [c.id, c.title, c.licence, whole(c.items), whole(c.files), size(c.bytes)]));
}
function map() {
  const grid = data.map;
  if (!grid.cells.length) return;
  const part = section("Where", `Items per cell of ${grid.degrees}°, by the centre of their bounding box.`);
  const [west, south, east, north] = grid.box;
  const width = Math.min(960, part.clientWidth), scale = width / (east - west), height = Math.max(120, Math.min(720, (north - south) * scale));
  const y = (latitude) => ((north - latitude) * height) / (north - south);
  const picture = draw(part, "svg", {viewBox: `0 0 ${width} ${height + 18}`, role: "img"});
  draw(picture, "title", {}, "Map of the number of items per cell");
  const most = Math.max(...grid.cells.map((cell) => cell[2]));
  const size = [grid.degrees * scale, (grid.degrees * height) / (north - south)];
  cells(part, picture, grid.cells.map(([longitude, latitude, count]) => [
    (longitude - west) * scale, y(latitude + grid.degrees), ...size, count, `${longitude}°, ${latitude}°: ${whole(count)} items`,
  ]), most);
  const step = [90, 45, 30, 15, 10, 5, 2, 1, 0.5, 0.2, 0.1].find((one) => (east - west) / one >= 4) || 0.1;
  for (let at = Math.ceil(west / step) * step; at <= east; at += step) {
    const x = (at - west) * scale;
    draw(picture, "path", {d: `M${x} 0V${height}`, class: "grid"});
    draw(picture, "text", {x: x + 3, y: height + 13}, `${+at.toFixed(1)}°`);
  }
  for (let at = Math.ceil(south / step) * step; at <= north; at += step) {
    draw(picture, "path", {d: `M0 ${y(at)}H${width}`, class: "grid"});
    draw(picture, "text", {x: 3, y: y(at) - 3}, `${+at.toFixed(1)}°`);
  }
}
function labels() {
  if (!data.labels.length) return;
  const more = data.labels_left_out ? ` The ${whole(data.labels_left_out)} rarest are left out.` : "";
  const part = section("Labels", `Items per label.${more}`);
  bars(part, data.labels, whole);
  if (data.labels.length < 2) return;
  const together = section("Labels together", "How many items have both labels, in the order of the list above.");
  const count = data.labels.length, side = 20, left = 210, top = 210;
  const box = add(together, "div", null, {class: "scroll"});
  const picture = draw(box, "svg", {viewBox: `0 0 ${left + count * side} ${top + count * side}`, role: "img"});
  picture.style.width = `${left + count * side}px`;
  draw(picture, "title", {}, "Matrix of label pairs");
  const most = Math.max(1, ...data.pairs.map((pair) => pair[2]));
  cells(together, picture, data.pairs.flatMap(([a, b, items]) => [[a, b], [b, a]].map(([row, column]) => [
    left + column * side, top + row * side, side - 1, side - 1, items, `${data.labels[a][0]} and ${data.labels[b][0]}: ${whole(items)} items`,
  ])), most);
  data.labels.forEach(([name], row) => {
    const text = name.length > 32 ? `${name.slice(0, 31)}…` : name;
    draw(picture, "text", {x: left - 6, y: top + row * side + 14, "text-anchor": "end"}, text);
    draw(picture, "text", {transform: `translate(${left + row * side + 14} ${top - 6}) rotate(-90)`}, text);
  });
}
function months() {
  if (data.months.length < 2) return;
  bars(section("When", "Items per month."), data.months, whole);
}
function files() {
  const part = section("Files by asset key");
  table(part, [["Key"], ["Files", "number"], ["Bytes", "number"], ["Mean", "number"]],
    data.keys.map(([key, count, bytes]) => [key, whole(count), size(bytes), size(Math.round(bytes / count))]));
  if (data.hosts.length) bars(section("Bytes by host", "The host that each item names for its assets."), data.hosts, size);
}
function runs() {
  const part = section("Runs", "The rate is the bytes that the run received, divided by its time.");
  table(part, [["Started"], ["Command"], ["State"], ["Files", "number"], ["Bytes", "number"], ["Time", "number"], ["Rate", "number"], ["Retries", "number"]],
    data.runs.map((run) => [run.started, run.kind, run.state, whole(run.files), size(run.bytes), duration(run.seconds),
      run.seconds ? `${size(Math.round(run.bytes / run.seconds))}/s` : "", whole(run.retries)]));
}
function failures() {
  const part = section("Failures", data.failures.length ? "" : "None.");
  if (data.failures.length) {
    table(part, [["What"], ["Assets", "number"], ["Asset keys"], ["For example", "wide"], ["What helps", "wide"]],
      data.failures.map((one) => [one.what, whole(one.count), one.keys, one.example, one.advice]));
  }
}
function checksum() {
  const part = section("Checksum of the mirror");
  add(part, "code", data.checksum || "Not all files have a SHA-256.");
  add(part, "p", "SHA-256 of one line per file, `<sha256>  <path>`, sorted by collection, item and asset key.", {class: "muted"});
  for (const note of data.notes) add(part, "p", note);
}
for (const step of [header, collections, map, labels, months, files, runs, failures, checksum]) step();
document.body.dataset.drawn = "yes";
