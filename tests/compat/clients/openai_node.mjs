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
const said = await client.responses.create({ model: BASE, input: "number 3", max_output_tokens: 8 });
assert.ok(said.output_text);

const until = async (ask) => {
  for (;;) {
    const found = await ask();
    if (["completed", "failed", "cancelled", "canceled"].includes(found.status)) return found;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
};
const place = "/v1/chat/completions";
const ask = { custom_id: "a", method: "POST", url: place, body: { model: BASE, messages: asked.messages, max_tokens: 8 } };
const requests = await client.files.create({ file: await OpenAI.toFile(Buffer.from(JSON.stringify(ask)), "asks.jsonl"), purpose: "batch" });
const begun = await client.batches.create({ input_file_id: requests.id, endpoint: place, completion_window: "24h" });
const batch = await until(() => client.batches.retrieve(begun.id));
assert.equal(JSON.parse(await (await client.files.content(batch.output_file_id)).text()).custom_id, "a");

const criterion = { type: "string_check", name: "same", operation: "ilike", input: "{{sample.output_text}}", reference: "{{item.known}}" };
const measure = await client.evals.create({ data_source_config: { type: "custom", item_schema: { type: "object" } }, testing_criteria: [criterion] });
const content = [{ item: { known: "yes" }, sample: { output_text: "yes" } }];
const started = await client.evals.runs.create(measure.id, { data_source: { type: "jsonl", source: { type: "file_content", content } } });
const run = await until(() => client.evals.runs.retrieve(started.id, { eval_id: measure.id }));
assert.equal(run.result_counts.passed, 1);
for await (const item of client.evals.runs.outputItems.list(run.id, { eval_id: measure.id })) assert.equal(item.status, "pass");
await client.evals.delete(measure.id);
await assert.rejects(client.fineTuning.jobs.retrieve("ftjob-none"), (error) => error instanceof OpenAI.NotFoundError && error.code === "fine_tune_not_found");
await assert.rejects(client.fineTuning.jobs.cancel(job.id), (error) => error instanceof OpenAI.ConflictError);
console.log(JSON.stringify(["files", "jobs", "events", "checkpoints", "chat", "stream", "responses", "batches", "evals", "tools", "errors"]));
