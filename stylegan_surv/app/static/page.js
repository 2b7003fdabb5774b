// The page of the health attribute. The server draws and computes; here is only what is shown, and when it is asked for.

import { Chart } from "/curves.js";

const $ = (id) => document.getElementById(id);
const LARGEST = 32 * 2 ** 20; // bytes of a photograph; the server refuses more
const SETTLED = 400; // ms without a change after which the picture is embedded again
const PLAY_STEP = 0.1; // SD of risk from frame to frame
const state = { tab: "", facts: null, chart: null, shown: null, original: "", generation: 0, working: null, playing: 0 };

// asking the server ---------------------------------------------------------------------------------------------

class Refused extends Error {}

async function ask(name, given, signal) {
  const answer = await fetch(`/api/${name}`, {
    method: given === undefined ? "GET" : "POST", headers: { "X-Tab": state.tab }, signal,
    body: given === undefined ? undefined : given instanceof Blob ? given : JSON.stringify(given),
  }).catch((fault) => {
    if (fault.name === "AbortError") throw fault;
    throw new Refused("The server does not answer: it was stopped, or the upload was cut off.");
  });
  if (!answer.ok) {
    const text = await answer.text();
    let words = text;
    try { words = JSON.parse(text).text; } catch { /* plain text */ }
    throw new Refused(words || `The server answered ${answer.status}.`);
  }
  return answer;
}

const askJson = async (name, given) => (await ask(name, given)).json();

async function* events(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const [, name, data] = /^event: (.*)\ndata: (.*)$/.exec(part);
      yield [name, JSON.parse(data)];
    }
  }
}

// words ---------------------------------------------------------------------------------------------------------

const signed = (v, digits = 1) => (v > 0 ? "+" : v < 0 ? "−" : "") + Math.abs(v).toFixed(digits);
const percent = (v) => `${Math.round(100 * v)}\u00a0%`;

function say(text) { $("status").textContent = text; }
function fault(text) { $("fault").textContent = text; $("fault").hidden = !text; }

function withSmall(node, main, small) {
  const more = document.createElement("small");
  more.textContent = small;
  node.replaceChildren(main, more);
}

function percentileWords(p) { return p <= 1 ? "below 1 %" : p >= 99 ? "above 99 %" : `${Math.round(p)} %`; }

function calibrationWords(shown) {
  const tested = state.facts.calibration;
  if (!tested || shown.death === null) return "This model states no probabilities, so that there is no calibration to test.";
  const range = `Calibration was tested between ${percent(tested.low)} and ${percent(tested.high)}`;
  const by = `Dead within ${+tested.horizon.toPrecision(3)} ${state.facts.unit}: predicted ${percent(shown.death)}`;
  if (shown.observed === null) return `${by}. ${range}: this prediction lies outside, and nobody knows whether it would come true.`;
  return `${by}; of patients with that prediction ${percent(shown.observed)} were. ${range}.`;
}

// edits ---------------------------------------------------------------------------------------------------------

const chosen = (name) => document.querySelector(`input[name=${name}]:checked`)?.value;
const way = () => ({ kind: chosen("kind"), layers: chosen("layers") });
const step = () => Number($("step").value);

let wanted = false, drawing = false, settling = 0;

function change() {
  wanted = true;
  $("again").textContent = "";
  clearTimeout(settling);
  settling = setTimeout(lookAgain, SETTLED);
  void pump();
}

async function pump() { // one request at a time, always for the newest position
  if (drawing || !state.facts) return;
  drawing = true;
  try {
    while (wanted) {
      wanted = false;
      const generation = state.generation;
      const shown = await askJson("edit", { step: step(), ...way(), difference: $("difference").checked });
      if (generation !== state.generation) { wanted = true; continue; }
      await show(shown);
    }
  } catch (problem) {
    fault(problem.message);
  } finally {
    drawing = false;
  }
}

async function show(shown) {
  state.shown = shown;
  paintEdit();
  await $("edit").decode().catch(() => {});
  const words = `${signed(shown.step)} SD`;
  $("step-words").textContent = words;
  $("step").setAttribute("aria-valuetext", `${words} of risk` + (shown.hazard_ratio ? `, hazard ratio ${shown.hazard_ratio.toFixed(2)}` : ""));
  $("edited").classList.toggle("beyond", !shown.usual);
  $("mark").hidden = shown.usual;
  withSmall($("risk"), `${signed(shown.risk_sd, 2)} SD`, "from the cohort's median");
  withSmall($("percentile"), percentileWords(shown.percentile), "of patients have less");
  if (shown.hazard_ratio) withSmall($("hazard"), shown.hazard_ratio.toFixed(2), "against step 0");
  $("calibration").textContent = calibrationWords(shown);
  $("calibration").classList.toggle("warned", shown.observed === null);
  state.chart.show(shown);
  document.body.dataset.painted = String(shown.step);
}

function paintEdit() {
  const comparing = $("compare").getAttribute("aria-pressed") === "true";
  const map = state.shown?.difference && $("difference").checked;
  const edit = $("edit"), shown = state.shown;
  if (!shown) return;
  edit.src = comparing ? state.original : map ? shown.difference : shown.picture;
  edit.alt = comparing ? "The face before the edit" : map ? "What the edit changes; grey where nothing has changed" : `The face at ${signed(shown.step)} SD of risk`;
  $("edit-words").textContent = comparing ? "Before the edit" : map ? "Change, twice as strong; grey: none" : `Edited: ${signed(shown.step)} SD of risk`;
}

async function lookAgain() {
  if (!state.facts || state.playing || step() === 0) return;
  const asked = step(), generation = state.generation;
  try {
    const found = await askJson("again", { step: asked, ...way() });
    if (asked !== step() || generation !== state.generation) return;
    const back = found.found === null ? "The study has no encoder to look at the picture again." :
      `The edit asks for ${signed(found.asked, 2)} SD; the drawn picture, embedded again, scores ${signed(found.found, 2)} SD.`;
    $("again").textContent = `${back} Likeness to the face at step 0: ${found.identity.toFixed(3)} (dlib's limit for one person: 0.91).`;
  } catch (problem) { fault(problem.message); }
}

async function newReach() {
  const { low, high } = await askJson("reach", way());
  const reach = state.facts.reach, place = (s) => `${100 * (s + reach) / (2 * reach)}%`;
  const slider = $("step");
  slider.style.setProperty("--low", low === null ? "100%" : place(low));
  slider.style.setProperty("--high", high === null ? "100%" : place(high));
  const parts = [];
  if (low === null) parts.push("This face is unlike any patient the model has seen, at every step.");
  else {
    if (low > -reach) parts.push(`below ${signed(low)} SD`);
    if (high < reach) parts.push(`above ${signed(high)} SD`);
  }
  $("cloud").textContent = low === null ? parts[0] : parts.length ?
    `The edit leaves the cloud of real latents (99 % of held-out patients) ${parts.join(" and ")}; the track is coloured there.` :
    "The edit stays among real latents (99 % of held-out patients) all the way.";
}

// whom the page shows ---------------------------------------------------------------------------------------------

async function welcome(person) {
  state.generation += 1;
  state.original = person.drawn;
  $("photo").src = person.photo ?? person.drawn;
  $("photo").alt = person.photo ? "The photograph, upright and cut as the study's were" : "A face that nobody has";
  $("photo-words").textContent = person.photo ? "Photograph" : "Nobody's face";
  say(person.said);
  $("quality").textContent = qualityWords(person);
  $("faithful").hidden = !person.photo || person.tuned;
  await newReach();
  change();
}

function qualityWords(person) {
  const q = person.quality;
  if (q.identity === undefined) return "";
  const alike = q.identity >= 0.91 ? "taken for the same person" : "not taken for the same person: what is edited resembles the photograph only in part";
  const tuned = person.tuned ? " It is drawn by a generator that was tuned to the photograph, for display; the figures are those of its latent." : "";
  return `How well the latent holds the photograph: ${q.lpips === undefined ? "" : `LPIPS ${q.lpips.toFixed(3)}, `}likeness ${q.identity.toFixed(3)} (${alike}; limit 0.91).${tuned}`;
}

async function takeFace(given = {}) {
  fault("");
  if (!given.photo_id) $("patient").value = "";
  try { await welcome(await askJson("face", given)); } catch (problem) { fault(problem.message); }
}

async function follow(name, given, words) {
  const abort = new AbortController();
  state.working = abort;
  fault("");
  $("working").hidden = false;
  $("progress").removeAttribute("value");
  say(words);
  try {
    for await (const [kind, data] of events(await ask(name, given, abort.signal))) {
      if (kind === "progress" && data.done) $("progress").value = data.done / data.total;
      if (kind === "done") await welcome(data);
      if (kind === "fault") { say(""); fault(data.text); }
    }
  } catch (problem) {
    say(problem.name === "AbortError" ? "Stopped." : "");
    if (problem.name !== "AbortError") fault(problem.message);
  } finally {
    if (state.working === abort) { state.working = null; $("working").hidden = true; }
  }
}

async function takeFiles(list) {
  const files = [...list];
  if (!files.length) return;
  if (state.working) { fault("A picture is in work already; wait until it is done, or stop it."); return; }
  const [file] = files;
  if (file.size > LARGEST) { fault(`The file has ${Math.round(file.size / 2 ** 20)} MB; at most ${LARGEST / 2 ** 20} MB are accepted. Take a smaller version of the photograph.`); return; }
  if (!file.size) { fault("The file is empty."); return; }
  const more = files.length > 1 ? ` Only the first of ${files.length} files is taken.` : "";
  await follow("photograph", file, `The face is found, cut and embedded.${more}`);
}

// controls ------------------------------------------------------------------------------------------------------

function radios(fieldset, name, entries) {
  entries.forEach(([value, words], i) => {
    const label = document.createElement("label"), input = document.createElement("input");
    Object.assign(input, { type: "radio", name, value, checked: i === 0 });
    input.addEventListener("change", async () => { try { await newReach(); } catch (problem) { fault(problem.message); } change(); });
    label.append(input, words);
    fieldset.append(label);
  });
}

function hold(pressed) { $("compare").setAttribute("aria-pressed", String(pressed)); paintEdit(); }

function play() {
  if (state.playing) { cancelAnimationFrame(state.playing); state.playing = 0; change(); }
  else {
    let up = step() < state.facts.reach ? PLAY_STEP : -PLAY_STEP;
    const next = () => {
      if (!drawing && !wanted) {
        if (Math.abs(step() + up) > state.facts.reach + 1e-9) up = -up;
        $("step").value = (step() + up).toFixed(1);
        change();
      }
      state.playing = requestAnimationFrame(next);
    };
    state.playing = requestAnimationFrame(next);
  }
  $("play").setAttribute("aria-pressed", String(!!state.playing));
  $("play").textContent = state.playing ? "Pause" : "Play";
}

async function download(button) {
  fault("");
  button.disabled = true;
  try {
    const answer = await ask("download", { what: button.dataset.what, step: step(), ...way() });
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await answer.blob());
    link.download = button.dataset.name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  } catch (problem) { fault(problem.message); } finally { button.disabled = false; }
}

function connect() {
  $("step").addEventListener("input", change);
  $("difference").addEventListener("change", change);
  $("play").addEventListener("click", play);
  const compare = $("compare");
  compare.addEventListener("pointerdown", (e) => { compare.setPointerCapture(e.pointerId); hold(true); });
  for (const name of ["pointerup", "pointercancel", "blur"]) compare.addEventListener(name, () => hold(false));
  compare.addEventListener("keydown", (e) => { if (e.key === " " || e.key === "Enter") hold(true); });
  compare.addEventListener("keyup", () => hold(false));
  compare.addEventListener("contextmenu", (e) => e.preventDefault());
  $("average").addEventListener("click", () => takeFace());
  $("another").addEventListener("click", () => takeFace({ seed: crypto.getRandomValues(new Uint32Array(1))[0] >>> 1 }));
  $("patient").addEventListener("change", (e) => takeFace(e.target.value ? { photo_id: e.target.value } : {}));
  $("file").addEventListener("change", (e) => { const { files } = e.target; void takeFiles(files).then(() => { e.target.value = ""; }); });
  $("stop").addEventListener("click", () => { state.working?.abort(); void ask("stop", {}).catch(() => {}); });
  $("faithful").addEventListener("click", () => { $("faithful").hidden = true; void follow("faithful", {}, "A copy of the generator is tuned to the photograph; go on meanwhile."); });
  for (const button of $("downloads").children) button.addEventListener("click", () => download(button));
  document.addEventListener("paste", (e) => void takeFiles(e.clipboardData.files));
  document.addEventListener("dragover", (e) => { e.preventDefault(); $("drop").classList.add("over"); });
  document.addEventListener("dragleave", () => $("drop").classList.remove("over"));
  document.addEventListener("drop", (e) => { e.preventDefault(); $("drop").classList.remove("over"); void takeFiles(e.dataTransfer.files); });
  addEventListener("pagehide", () => navigator.sendBeacon("/api/close", state.tab));
  addEventListener("pageshow", (e) => { if (e.persisted) location.reload(); });
}

function introduce(facts) {
  state.facts = facts;
  state.chart = new Chart($("chart"), facts.cohort, facts.unit);
  radios($("kinds"), "kind", Object.entries(facts.kinds));
  radios($("layers"), "layers", facts.layers.map((name) => [name, name]));
  Object.assign($("step"), { min: -facts.reach, max: facts.reach, step: facts.stride });
  $("hazard-pair").hidden = !facts.hazard;
  $("refits-key").hidden = !facts.refits;
  $("refits-words").textContent = `lowest to highest of ${facts.refits} refits on resampled patients`;
  for (const { level, title, text } of facts.findings) {
    const item = document.createElement("li"), head = document.createElement("strong"), mark = document.createElement("span");
    item.className = level;
    head.textContent = `${title} `;
    mark.className = "level";
    mark.textContent = { good: "", plain: "", caution: "(caution) ", alarm: "(alarm) " }[level];
    item.append(head, mark, text);
    $("findings").append(item);
  }
  $("patients").hidden = !facts.patients.length;
  $("patient").append(...facts.patients.map((name) => new Option(name)));
  for (const node of document.querySelectorAll("button, input")) node.disabled = false;
}

async function start() {
  history.replaceState(null, "", "/"); // the token is in a cookie now, and leaves the address
  ({ tab: state.tab } = await askJson("tab", {}));
  void ask("first").then(async (answer) => {
    if (answer.status !== 200 || state.facts) return;
    $("photo").src = $("edit").src = URL.createObjectURL(await answer.blob());
    $("photo").alt = $("edit").alt = "The generator's average face";
  }).catch(() => {});
  connect();
  introduce(await askJson("study"));
  await takeFace();
}

start().catch((problem) => { say(""); fault(problem.message); });
