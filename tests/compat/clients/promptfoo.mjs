// promptfoo: an evaluation of its own, two prompts at two models, with assertions about texts and about answers that fit a schema.
import assert from "node:assert";
import { spawnSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

const { MODEL, BASE, OPENAI_BASE_URL, OPENAI_API_KEY } = process.env;
const schema = { type: "object", properties: { yes: { type: "boolean" } }, required: ["yes"], additionalProperties: false };
const form = { type: "json_schema", json_schema: { name: "answer", schema, strict: true } };
const asked = { apiBaseUrl: OPENAI_BASE_URL, apiKey: OPENAI_API_KEY, temperature: 0 };
const provider = (model, label, more) => ({ id: `openai:chat:${model}`, label, config: { ...asked, ...more } });
fs.writeFileSync(
  "promptfooconfig.json",
  JSON.stringify({
    prompts: ["number {{number}}", "Which is {{number}}?"],
    providers: [provider(MODEL, "tuned", { max_tokens: 4 }), provider(BASE, "form", { max_tokens: 400, response_format: form })],
    defaultTest: { assert: [{ type: "javascript", value: "JSON.stringify(output).length > 2" }] },
    tests: [{ vars: { number: 1 } }, { vars: { number: 2 }, providers: ["form"], assert: [{ type: "is-json", value: schema }] }],
  }),
);
const entry = path.join(path.dirname(fileURLToPath(import.meta.url)), "node_modules/promptfoo/dist/src/entrypoint.js");
const options = ["eval", "-c", "promptfooconfig.json", "-o", "out.json", "--no-cache", "--no-table", "--no-progress-bar", "--no-write"];
const quiet = ["TELEMETRY", "UPDATE", "REMOTE_GENERATION", "SHARING"].map((name) => [`PROMPTFOO_DISABLE_${name}`, "1"]);
const env = { ...process.env, ...Object.fromEntries(quiet), PROMPTFOO_CONFIG_DIR: path.resolve("promptfoo") };
const done = spawnSync(process.execPath, [entry, ...options], { env, encoding: "utf8" });
assert.equal(done.status, 0, done.stdout + done.stderr);
const { results } = JSON.parse(fs.readFileSync("out.json", "utf8"));
assert.deepEqual([results.stats.successes, results.stats.failures, results.stats.errors], [6, 0, 0]);
assert.ok(results.results.every((each) => each.response.tokenUsage.total > 0));
console.log(JSON.stringify(["chat", "structured"]));
