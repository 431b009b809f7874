// The `openai` package of Node.js: upload, create, follow, chat, errors.
import assert from "node:assert";
import fs from "node:fs";
import OpenAI from "openai";

const client = new OpenAI();
const { ROWS, BASE, TOOLS_MODEL, EXTRA } = process.env;
// Other content than other clients send: the same content under the same name would be the same file.
const rows = await OpenAI.toFile(Buffer.concat([fs.readFileSync(ROWS), Buffer.from("\n")]), "node.jsonl");
const file = await client.files.create({ file: rows, purpose: "fine-tune", expires_after: { anchor: "created_at", seconds: 3600 } });
assert.equal(file.expires_at, file.created_at + 3600);
let job = await client.fineTuning.jobs.create({ model: BASE, training_file: file.id, suffix: "node", ...JSON.parse(EXTRA) });
while (!["succeeded", "failed", "cancelled"].includes(job.status)) {
  await new Promise((resolve) => setTimeout(resolve, 200));
  job = await client.fineTuning.jobs.retrieve(job.id);
}
assert.equal(job.status, "succeeded");
const events = [];
for await (const event of client.fineTuning.jobs.listEvents(job.id, { limit: 4 })) events.push(event.id);
assert.ok(events.length > 4 && new Set(events).size === events.length);
const checkpoints = [];
for await (const each of client.fineTuning.jobs.checkpoints.list(job.id)) checkpoints.push(each);
assert.ok(checkpoints.length > 0);

const asked = { model: checkpoints[0].fine_tuned_model_checkpoint, messages: [{ role: "user", content: "number 3" }], max_tokens: 8, temperature: 0 };
const whole = await client.chat.completions.create(asked);
let text = "";
for await (const chunk of await client.chat.completions.create({ ...asked, stream: true })) text += chunk.choices[0]?.delta?.content ?? "";
assert.equal(text, whole.choices[0].message.content);
const parameters = { type: "object", properties: { yes: { type: "boolean" } }, required: ["yes"], additionalProperties: false };
const called = await client.chat.completions.create({
  model: TOOLS_MODEL, messages: asked.messages, max_tokens: 400, tool_choice: "required",
  tools: [{ type: "function", function: { name: "look", strict: true, parameters } }],
});
assert.equal(called.choices[0].message.tool_calls[0].function.name, "look");
await assert.rejects(client.fineTuning.jobs.retrieve("ftjob-none"), (error) => error instanceof OpenAI.NotFoundError && error.code === "fine_tune_not_found");
await assert.rejects(client.fineTuning.jobs.cancel(job.id), (error) => error instanceof OpenAI.ConflictError);
console.log(JSON.stringify(["files", "jobs", "events", "checkpoints", "chat", "stream", "tools", "errors"]));
