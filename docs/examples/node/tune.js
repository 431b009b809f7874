// Upload a dataset, train, follow the loss across every disconnect, chat: from Node.js, with nothing but the .proto files.
// Run: npm install && node tune.js ../../../tunesmith/local/demo/train.jsonl
const fs = require('fs');
const path = require('path');
const grpc = require('@grpc/grpc-js');
const protoLoader = require('@grpc/proto-loader');

const PROTOS = path.join(__dirname, '../../../protos');
const FILES = ['task_manager', 'dataset', 'inference'].map((name) => `tunesmith/v1/${name}_service.proto`);
const definition = protoLoader.loadSync(FILES, { includeDirs: [PROTOS], keepCase: true, enums: String, longs: Number, oneofs: true, arrays: true, objects: true });
const v1 = grpc.loadPackageDefinition(definition).tunesmith.v1;

const address = (service, port) => process.env[`TUNESMITH_${service}_ADDRESS`] || `localhost:${port}`;
const plain = grpc.credentials.createInsecure();
const tasks = new v1.TaskManagerService(address('TASK_MANAGER', 50051), plain);
const datasets = new v1.DatasetService(address('STORAGE', 50053), plain);
const models = new v1.InferenceService(address('INFERENCE', 50054), plain);

const call = (client, method, request) =>
  new Promise((resolve, reject) => client[method](request, (error, answer) => (error ? reject(error) : resolve(answer))));

// The first message is the header, the others are chunks of at most 1 MiB; `write` says when to wait.
function upload(file) {
  return new Promise(async (resolve, reject) => {
    const stream = datasets.UploadDataset((error, dataset) => (error ? reject(error) : resolve(dataset)));
    stream.write({ header: { display_name: path.basename(file) } });
    for await (const chunk of fs.createReadStream(file, { highWaterMark: 1 << 20 })) {
      if (!stream.write({ chunk })) await new Promise((drained) => stream.once('drain', drained));
    }
    stream.end();
  });
}

// One connection; resolves to [last sequence, whether the task has ended]. A stream without `end` is to be resumed.
function follow(name, after, show) {
  return new Promise((resolve, reject) => {
    const stream = tasks.WatchTask({ name, after_sequence: after });
    let ended = false;
    stream.on('data', (message) => {
      for (const event of message.events) {
        after = event.sequence;
        show(event);
      }
      ended = ended || message.control === 'end';
    });
    stream.on('error', (error) => (error.code === grpc.status.UNAVAILABLE ? resolve([after, false]) : reject(error)));
    stream.on('end', () => resolve([after, ended]));
  });
}

async function main(file) {
  const dataset = await upload(file);
  console.log(`${dataset.name}: ${dataset.statistics.example_count} examples`);
  const spec = { base_model: 'baseModels/smollm2-135m-instruct', dataset: dataset.name, hyperparameters: { max_steps: 3 } };
  const task = await call(tasks, 'CreateTask', { task: { display_name: 'From Node.js', spec: { fine_tuning: spec } } });
  let after = 0;
  for (let ended = false; !ended; ) {
    [after, ended] = await follow(task.name, after, (event) => {
      if (event.event === 'step_metrics') console.log(event.sequence, event.step_metrics.step, event.step_metrics.values.loss);
      if (event.event === 'state_change') console.log(event.sequence, event.state_change.to_state);
    });
    if (!ended) await new Promise((again) => setTimeout(again, 1000));
  }
  const messages = [{ role: 'user', content: 'where is my parcel?' }];
  const answer = models.StreamChat({ model: task.name, messages, max_tokens: 20 });
  for await (const piece of answer) process.stdout.write(piece.delta || '');
  console.log();
}

main(process.argv[2]).catch((error) => {
  console.error(error.message); // its `metadata` holds the reason and the hint (google.rpc.ErrorInfo)
  process.exit(1);
});
