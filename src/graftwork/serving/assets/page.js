"use strict";
// Everything that is shown is put in as text: nothing of an answer becomes markup.
const at = (id) => document.getElementById(id);
let tasks = {};

const made = (name, text, parent) => {
  const element = document.createElement(name);
  if (text !== undefined) element.textContent = text;
  if (parent) parent.append(element);
  return element;
};

const fetched = async (path, body) => {
  const options = body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const answer = await fetch(path, options);
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.error || `status ${answer.status}`);
  return found;
};

const showFields = () => {
  const task = tasks[at("task").value], fields = at("fields");
  fields.replaceChildren();
  at("answer").hidden = at("attention").hidden = at("error").hidden = true;
  if (!task) return;
  at("about").textContent = `${task.kind} · ${task.source}`;
  for (const column of [...task.columns, ...(task.pair ? [task.pair] : [])]) {
    const optional = column === task.pair;
    const label = made("label", column === "choices" ? "choices, one a line" : optional ? `${column} (if there is one)` : column, fields);
    const text = made("textarea", undefined, fields);
    label.htmlFor = text.id = `field-${column}`;
    text.rows = column === "context" ? 5 : 2;
    text.dataset.column = column;
  }
};

const typed = () => {
  const fields = [...document.querySelectorAll("#fields textarea")];
  const texts = fields.flatMap((field) => (field.dataset.column === "choices" ? field.value.split("\n") : [field.value]));
  return texts.filter((text) => text.trim());
};

const showTags = (tags, words, to) => {
  // the words of an entity, "B-X" and the "I-X" behind it, are one span
  const spans = [];
  tags.forEach((tag, n) => {
    const name = tag.replace(/^[BI]-/, ""), last = spans[spans.length - 1];
    if (last && tag.startsWith("I-") && last.name === name) last.words.push(words[n]);
    else spans.push({ name, words: [words[n]], plain: tag === "O" });
  });
  for (const span of spans) {
    const part = made(span.plain ? "span" : "mark", span.words.join(" "), to);
    if (!span.plain) made("small", span.name, part);
    to.append(" ");
  }
};

const showAnswer = (task, answer, texts) => {
  const value = at("value"), chances = at("probabilities");
  value.replaceChildren();
  chances.replaceChildren();
  at("answer").hidden = false;
  if (task.kind === "tagging") showTags(answer.value, texts.join(" ").split(/\s+/).filter(Boolean), value);
  else value.textContent = Array.isArray(answer.value) ? answer.value.join(", ") || "none" : String(answer.value);
  for (const [name, chance] of Object.entries(answer.probabilities || {}).sort((one, other) => other[1] - one[1])) {
    const line = made("div", undefined, chances);
    line.className = "chance";
    made("span", name, line);
    const bar = made("div", undefined, line);
    bar.className = "bar";
    made("div", undefined, bar).style.width = `${100 * chance}%`;
    made("b", `${(100 * chance).toFixed(1)} %`, line);
  }
};

const showAttention = (found) => {
  const site = at("site"), head = document.querySelector("#weights thead"), body = document.querySelector("#weights tbody");
  const names = Object.keys(found.sites);
  const mean = found.tokens.map((_, t) => found.adapters.map((_, a) =>
    names.reduce((sum, name) => sum + found.sites[name][t][a], 0) / names.length));
  site.replaceChildren();
  for (const name of ["mean of all", ...names]) made("option", name, site);
  const draw = () => {
    const weights = found.sites[site.value] || mean;
    head.replaceChildren();
    body.replaceChildren();
    const top = made("tr", undefined, head);
    for (const name of ["token", ...found.adapters]) made("th", name, top).scope = "col";
    found.tokens.forEach((token, t) => {
      const line = made("tr", undefined, body);
      made("th", token, line).scope = "row";
      for (const weight of weights[t]) {
        const cell = made("td", weight.toFixed(2), line);
        cell.style.background = `rgba(var(--heat), ${(0.6 * weight).toFixed(3)})`;
      }
    });
  };
  site.onchange = draw;
  draw();
  at("attention").hidden = false;
};

const ask = async (event) => {
  event.preventDefault();
  const task = tasks[at("task").value], texts = typed(), button = document.querySelector("button");
  const request = { task: task.name, texts, cut: true };
  at("request").textContent = `POST /v1/predict\n${JSON.stringify(request, null, 1)}`;
  at("error").hidden = at("attention").hidden = true;
  button.disabled = true;
  try {
    showAnswer(task, (await fetched("/v1/predict", request)).predictions[0], texts);
    if (task.fusion) showAttention(await fetched("/v1/attention", { task: task.name, texts }));
  } catch (error) {
    at("answer").hidden = true;
    at("error").textContent = error.message;
    at("error").hidden = false;
  }
  button.disabled = false;
};

const begin = async () => {
  at("task").addEventListener("change", showFields);
  at("asked").addEventListener("submit", ask);
  try {
    tasks = Object.fromEntries((await fetched("/v1/tasks")).map((task) => [task.name, task]));
    showFields();
  } catch (error) {
    at("error").textContent = error.message;
    at("error").hidden = false;
  }
  document.body.dataset.ready = "yes";
};

begin();
