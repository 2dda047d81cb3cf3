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
const phases = {complete: "complete", interrupted: "interrupted: resume continues it", failed: "failed"};
function phase() {
  const now = data.progress;
  if (data.state !== "running") return phases[data.state];
  if (data.stage) return `${data.stage.name}: ${whole(data.stage.done)}${data.stage.total ? ` of ${whole(data.stage.total)}` : ""}`;
  if (!now.walk_ended) return now.assets_planned ? "listing and fetching" : "listing";
  return now.assets_pending ? "fetching" : "finishing";
}
function header() {
  document.getElementById("title").textContent = `Mirror in ${data.dest}`;
  document.title = `${phase()} · stacpull`;
  const lead = document.getElementById("lead");
  lead.replaceChildren();
  add(lead, "span", phase(), {class: `state ${data.state}`});
  lead.append(` · from ${data.source || "a source that has not answered yet"} · ${data.written}`);
  if (!connected) add(lead, "span", " · not connected: the run has ended, or cannot be reached", {class: "failed"});
}
function numbers(element, [now, rate, left, expected, isLive]) {
  const done = now.assets_done + now.assets_failed;
  const all = expected === null ? now.assets_planned : expected;
  const meter = add(element, "div", null, {
    class: "meter", role: "progressbar", "aria-valuemin": 0, "aria-valuemax": all, "aria-valuenow": done, "aria-label": "Files",
  });
  add(meter, "i").style.width = `${all ? Math.min(100, (100 * done) / all) : 0}%`;
  const box = add(element, "div", null, {class: "numbers eight"});
  const about = now.walk_ended ? "" : "about ";
  const mean = now.seconds ? now.bytes_fetched / now.seconds : 0;
  const shown = [
    [`${size(Math.round(isLive ? rate : mean))}/s`, isLive ? "now" : "on average"], [size(now.bytes_fetched), "fetched"],
    [whole(done), `of ${about}${whole(all)} files`], [left === null ? "–" : duration(left), now.walk_ended ? "left" : "left, estimated"],
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
  titled(element, "Failures", kinds.length ? "Those of this command; stacpull failures lists all." : "None.");
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
