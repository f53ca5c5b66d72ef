"use strict";
// Draws /openapi.json: operations by resource, each with its arguments, bodies and statuses. Text goes in as text only.
const at = (id) => document.getElementById(id);
const put = (parent, tag, text, className) => {
  const node = document.createElement(tag);
  if (text !== undefined && text !== null) node.textContent = text;
  if (className) node.className = className;
  parent.append(node);
  return node;
};
const ORDER = ["get", "post", "put", "patch", "delete"];
let spec;

const follow = (thing) => {
  if (!thing || !thing.$ref) return thing;
  return thing.$ref.slice(2).split("/").reduce((found, key) => found && found[key], spec);
};
const nameOf = (thing) => (thing && thing.$ref ? thing.$ref.split("/").pop() : "");

function kind(schema) {
  const named = nameOf(schema);
  schema = follow(schema) || {};
  if (schema.enum) return schema.enum.map((word) => JSON.stringify(word)).join(" | ");
  if (schema.anyOf) return schema.anyOf.map(kind).join(" or ");
  const types = [].concat(schema.type || "any");
  const limits = [];
  if (schema.format) limits.push(schema.format);
  if (schema.maxLength) limits.push("≤ " + schema.maxLength + " characters");
  if (schema.minimum !== undefined) limits.push("≥ " + schema.minimum);
  if (schema.maximum !== undefined) limits.push("≤ " + schema.maximum);
  const words = types.map((type) => (type === "array" ? "list of " + kind(schema.items || {}) : type));
  return (named && types.includes("object") ? named : words.join(" or ")) + (limits.length ? " (" + limits.join(", ") + ")" : "");
}

function fields(parent, schema, depth) {
  schema = follow(schema) || {};
  if (schema.anyOf) schema = follow(schema.anyOf[0]) || {};
  if (schema.type === "array") return fields(parent, schema.items, depth);
  const all = Object.entries(schema.properties || {});
  if (!all.length) {
    put(parent, "p", kind(schema), "what");
    return;
  }
  const rows = put(put(parent, "table"), "tbody");
  for (const [name, value] of all) {
    const row = put(rows, "tr");
    const cell = put(row, "td");
    put(cell, "code", name);
    if ((schema.required || []).includes(name)) put(cell, "span", " *", "needed").title = "always there";
    put(row, "td", kind(value), "kind");
    const text = value.description || (follow(value) || {}).description || "";
    const words = put(row, "td", text.replaceAll("`", ""));
    const inner = follow(value) || {};
    const deeper = inner.type === "array" ? follow(inner.items) : inner;
    if (depth < 3 && deeper && deeper.properties && nameOf(inner.items || value) !== "Links" && nameOf(value) !== "Links") {
      const more = put(words, "details", null, "inner");
      put(more, "summary", nameOf(inner.items || value) || "what is in it");
      more.addEventListener("toggle", () => { if (more.open && more.children.length === 1) fields(more, deeper, depth + 1); });
    }
  }
}

function body(operation, method, path) {
  const box = document.createElement("div");
  box.className = "body";
  if (operation.description) put(box, "p", operation.description, "what");
  const parameters = (operation.parameters || []).map(follow).filter((one) => one.in !== "header");
  if (parameters.length) {
    put(box, "h3", "Arguments");
    const rows = put(put(box, "table"), "tbody");
    for (const one of parameters) {
      const row = put(rows, "tr");
      const cell = put(row, "td");
      put(cell, "code", one.name);
      if (one.required) put(cell, "span", " *", "needed").title = "needed";
      put(row, "td", one.in + ", " + kind(one.schema), "kind");
      put(row, "td", one.description || "");
    }
  }
  if (operation.requestBody) {
    put(box, "h3", "Body");
    fields(box, operation.requestBody.content["application/json"].schema, 0);
  }
  put(box, "h3", "Answers");
  const rows = put(put(box, "table"), "tbody");
  for (const [status, reference] of Object.entries(operation.responses)) {
    const response = follow(reference);
    const row = put(rows, "tr");
    put(put(row, "td"), "code", status);
    const cell = put(row, "td", response.description);
    const media = Object.values(response.content || {})[0];
    if (media && status < "300") {
      const more = put(cell, "details", null, "inner");
      put(more, "summary", nameOf(media.schema) || kind(media.schema));
      more.addEventListener("toggle", () => { if (more.open && more.children.length === 1) fields(more, media.schema, 0); });
    }
  }
  put(box, "h3", "By hand");
  const version = spec.info["x-microversion"];
  const sends = operation.requestBody ? " \\\n  -H 'Content-Type: application/json' -d '…'" : "";
  put(box, "pre", "curl -X " + method.toUpperCase() + " '" + spec.servers[0].url + path + "' \\\n  -H 'X-OpenStack-Ironic-API-Version: " + version + "'" + sends);
  return box;
}

function draw() {
  const operations = at("operations");
  const tags = at("tags");
  operations.replaceChildren();
  tags.replaceChildren();
  at("introduction").replaceChildren();
  for (const part of spec.info.description.split("\n\n")) put(at("introduction"), "p", part.replaceAll("`", ""), "what");
  const groups = new Map(spec.tags.map((tag) => [tag.name, []]));
  for (const [path, item] of Object.entries(spec.paths))
    for (const [method, operation] of Object.entries(item).sort((a, b) => ORDER.indexOf(a[0]) - ORDER.indexOf(b[0]))) groups.get(operation.tags[0]).push([path, method, operation]);
  for (const [name, all] of groups) {
    const section = put(operations, "section");
    put(section, "h2", name).id = "tag-" + name;
    const link = put(tags, "a", name);
    link.href = "#tag-" + name;
    put(link, "span", all.length);
    for (const [path, method, operation] of all) {
      const box = put(section, "details", null, "op");
      box.id = operation.operationId;
      const line = put(box, "summary");
      put(line, "span", method, "method " + method);
      put(line, "span", path, "path");
      put(line, "span", operation.summary, "what");
      if (operation["x-microversion"]) put(line, "span", "since " + operation["x-microversion"], "since");
      const schema = operation.requestBody && follow(operation.requestBody.content["application/json"].schema);
      const words = [path, method, operation.summary, ...(operation.parameters || []).map((one) => one.name || ""),
        ...Object.keys((schema && schema.properties) || {})];
      box.dataset.words = words.join(" ").toLowerCase();
      box.addEventListener("toggle", () => { if (box.open && box.children.length === 1) box.append(body(operation, method, path)); });
    }
  }
  find();
  const opened = location.hash && at(location.hash.slice(1));
  if (opened && opened.tagName === "DETAILS") opened.open = true;
  if (opened) opened.scrollIntoView();
}

function find() {
  const words = at("find").value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const section of document.querySelectorAll("section")) {
    let seen = 0;
    for (const box of section.querySelectorAll("details.op")) {
      box.hidden = !words.every((word) => box.dataset.words.includes(word));
      seen += box.hidden ? 0 : 1;
    }
    section.hidden = !seen;
  }
}

async function load(version) {
  at("status").hidden = false;
  at("status").textContent = "Loading…";
  const address = "/openapi.json" + (version ? "?microversion=" + version : "");
  try {
    const answer = await fetch(address);
    if (!answer.ok) throw new Error(answer.status + " " + answer.statusText);
    spec = await answer.json();
  } catch (error) {
    at("status").textContent = "The document could not be read: " + error.message + ". Load the page again.";
    return;
  }
  at("raw").href = address;
  at("status").hidden = true;
  const select = at("version");
  if (!select.children.length) {
    for (let minor = Number(spec.info["x-microversion-range"][1].split(".")[1]); minor >= 1; minor--) put(select, "option", "1." + minor);
  }
  select.value = spec.info["x-microversion"];
  draw();
}

at("version").addEventListener("change", (event) => load(event.target.value));
at("find").addEventListener("input", find);
load("");
