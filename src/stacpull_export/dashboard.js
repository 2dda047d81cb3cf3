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

let data = JSON.parse(document.getElementById("data").textContent);
const parts = {};
let connected = true;

// Draw a part of the page again if what it shows has changed.
function part(name, shown, show) {
  const made = (parts[name] ||= {element: add(main, "section"), shown: null});
  const text = JSON.stringify(shown);
  if (made.shown === text) return;
  made.shown = text;
  made.element.replaceChildren();
  if (shown !== null) show(made.element, shown);
}
function titled(element, title, text) {
  add(element, "h2", title);
  if (text) add(element, "p", text, {class: "muted"});
}
const phases = {interrupted: "interrupted: resume continues it"};
function phase() {
  const now = data.progress;
  if (data.state !== "running") return phases[data.state] || outcome(data.state, now.assets_failed)[0];
  if (data.stage) {
    const {name, done, total} = data.stage;
    return total ? `${name}: ${whole(done)} of ${whole(total)}` : done ? `${name}: ${whole(done)}` : name;
  }
  if (!now.walk_ended) return now.assets_planned ? "listing and fetching" : "listing";
  return now.assets_pending ? "fetching" : "finishing";
}
function header() {
  document.getElementById("title").textContent = `Mirror in ${data.dest}`;
  document.title = `${phase()} · stacpull`;
  const lead = document.getElementById("lead");
  lead.replaceChildren();
  add(lead, "span", phase(), {class: `state ${outcome(data.state, data.progress.assets_failed)[1]}`});
  lead.append(` · from ${data.source || "a source that has not answered yet"} · ${data.written}`);
  if (!connected) add(lead, "span", " · not connected: the run has ended, or cannot be reached", {class: "failed"});
}
function numbers(element, [now, rate, left, expected, isLive]) {
  const all = expected === null ? now.assets_planned : expected;
  const meter = add(element, "div", null, {
    class: "meter", role: "progressbar", "aria-valuemin": 0, "aria-valuemax": all, "aria-valuenow": now.assets_done, "aria-label": "Files",
  });
  add(meter, "i").style.width = `${all ? Math.min(100, (100 * now.assets_done) / all) : 0}%`;
  const box = add(element, "div", null, {class: "numbers eight"});
  const about = now.walk_ended ? "" : "about ";
  const mean = now.seconds ? now.bytes_fetched / now.seconds : 0;
  const shown = [
    [`${size(Math.round(isLive ? rate : mean))}/s`, isLive ? "now" : "on average"], [size(now.bytes_fetched), "fetched"],
    [whole(now.assets_done), `of ${about}${whole(all)} files`], [left === null ? "–" : duration(left), now.walk_ended ? "left" : "left, estimated"],
    [whole(now.items_matched), `items match, ${whole(now.items_seen)} read`], [whole(now.assets_failed), "files failed"],
    [whole(now.retries), `retries, ${whole(now.requests)} requests`], [duration(now.seconds), "since the start"],
  ];
  for (const [value, name] of shown) { const one = add(box, "div"); add(one, "b", value); one.append(name); }
}
function hosts(element, [shown, left_out]) {
  titled(element, "Hosts", left_out ? `${whole(left_out)} more hosts are left out.` : "");
  const state = (one) => (one.wait > 0 ? `waits ${Math.ceil(one.wait)} s` : one.active ? "active" : "idle");
  table(element, [["Host"], ["State"], ["Requests at once", "number"], ["Limit", "number"], ["Queued", "number"], ["Rate", "number"], ["Bytes", "number"]],
    shown.map((one) => [one.host, state(one), whole(one.active), whole(one.limit), whole(one.queued), `${size(Math.round(one.rate))}/s`, size(one.bytes)]));
}
function rates(element, shown) {
  titled(element, "Rates by host", "Bytes per second since this command was started.");
  rateChart(element, shown);
}
function failures(element, [kinds, latest]) {
  titled(element, "Failures", kinds.length ? "Of this command only; stacpull failures lists all." : "None.");
  if (!kinds.length) return;
  table(element, [["What"], ["Assets", "number"], ["What helps", "wide"]], kinds.map(([what, count, advice]) => [what, whole(count), advice]));
  add(element, "h3", "The latest");
  table(element, [["Item", "wide"], ["Key"], ["Why", "wide"]], latest);
}
function warnings(element, shown) {
  titled(element, "Warnings");
  table(element, [["When"], ["What", "wide"]], shown);
}
function show() {
  header();
  part("numbers", [data.progress, data.rate, data.left, data.expected, data.is_live], numbers);
  part("hosts", data.hosts.length ? [data.hosts, data.hosts_left_out] : null, hosts);
  part("rates", data.rates.intervals.length ? data.rates : null, rates);
  part("failures", [data.failures, data.failed], failures);
  part("warnings", data.warnings.length ? data.warnings : null, warnings);
  document.body.dataset.drawn = "yes";
  document.body.dataset.state = data.state;
}
function login() {
  document.getElementById("title").textContent = "stacpull";
  document.getElementById("lead").textContent = data.login;
  const form = add(main, "form", null, {method: "post", action: "/login"});
  const label = add(form, "label", "Token ");
  add(label, "input", null, {type: "password", name: "token", autocomplete: "off", required: ""});
  add(form, "button", "Show the run");
  document.body.dataset.drawn = "yes";
}
function follow() {
  const events = new EventSource("/events");
  events.onmessage = (event) => {
    data = JSON.parse(event.data);
    connected = true;
    if (!data.is_live) events.close();
    show();
  };
  events.onerror = () => { connected = false; header(); };
}
if ("login" in data) login();
else {
  show();
  follow();
  addEventListener("resize", () => { parts.rates.shown = null; show(); });  // the chart is drawn for one width
}
