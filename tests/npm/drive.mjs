// Drives the official npm client, unmodified, the way a TypeScript backend would, and prints what it saw as JSON.
// TRIGGER_API_URL and TRIGGER_SECRET_KEY say where; the task ids come as arguments.
import { ApiError, auth, batch, configure, runs, schedules, tasks, wait } from "@trigger.dev/sdk";

const [greet, hold, say] = process.argv.slice(2);
configure({ baseURL: process.env.TRIGGER_API_URL, accessToken: process.env.TRIGGER_SECRET_KEY });
const seen = {};

async function ended(id) {
  return await runs.poll(id, { pollIntervalMs: 100 });
}

async function refusal(call) {
  try {
    await call();
    return null;
  } catch (error) {
    return { kind: error.constructor.name, api: error instanceof ApiError, status: error.status, message: error.message };
  }
}

// Trigger, with what JSON lacks; poll; retrieve.
const when = new Date("2026-11-21T12:00:00.000Z");
const one = await tasks.trigger(greet, { name: "kelp", when, count: 3n, tags: new Set(["a"]), none: undefined }, {
  tags: ["npm", "first"],
  metadata: { source: "test" },
});
const polled = await ended(one.id);
seen.trigger = { id: one.id, publicAccessToken: typeof one.publicAccessToken };
seen.polled = { status: polled.status, output: polled.output, payload: polled.payload, isSuccess: polled.isSuccess };
const retrieved = await runs.retrieve(one.id);
seen.retrieved = {
  status: retrieved.status,
  tags: retrieved.tags,
  metadata: retrieved.metadata,
  attemptCount: retrieved.attemptCount,
  taskIdentifier: retrieved.taskIdentifier,
  dates: [retrieved.createdAt, retrieved.startedAt, retrieved.finishedAt].every((d) => d instanceof Date && d > new Date("2026-01-01")),
};

// The token that came with the trigger reads this run and nothing else.
seen.token = await auth.withAuth({ accessToken: one.publicAccessToken }, async () => ({
  own: (await runs.retrieve(one.id)).id,
  others: await refusal(() => runs.list()),
}));

// A payload that is a plain string.
if (say) seen.said = (await ended((await tasks.trigger(say, "just text")).id)).output;

// Idempotency.
const first = await tasks.trigger(greet, { name: "twice" }, { idempotencyKey: "npm-key" });
const second = await tasks.trigger(greet, { name: "twice" }, { idempotencyKey: "npm-key" });
seen.idempotent = first.id === second.id;

// A task that does not exist.
seen.unknownTask = await refusal(() => tasks.trigger("no-such-task", {}));
seen.unknownRun = await refusal(() => runs.retrieve("run_00000000000000000000000000"));

// Both batch forms: announced and streamed (batchTrigger of one task, batch.trigger of several), looked at afterwards.
const many = await tasks.batchTrigger(greet, [0, 1, 2, 3, 4].map((n) => ({ payload: { name: `batch ${n}` } })));
const mixed = await batch.trigger([
  { id: greet, payload: { name: "mixed 0" } },
  { id: "no-such-task", payload: {} },
  { id: greet, payload: { name: "mixed 2" }, options: { tags: "mixed" } },
]);
seen.batchTrigger = { id: many.batchId, runCount: many.runCount };
let found = await batch.retrieve(many.batchId);
for (const id of found.runs) await ended(id);
found = await batch.retrieve(many.batchId);
seen.batch = { status: found.status, runCount: found.runCount, runs: found.runs.length };
seen.outputs = (await Promise.all(found.runs.map((id) => runs.retrieve(id)))).map((run) => run.output);
let mixedBatch = await batch.retrieve(mixed.batchId);
for (const id of mixedBatch.runs) await ended(id);
mixedBatch = await batch.retrieve(mixed.batchId);
seen.mixed = { status: mixedBatch.status, runs: mixedBatch.runs.length, errors: mixedBatch.processing.errors };

// List: filters, and pages by cursor.
const listed = await runs.list({ limit: 2, taskIdentifier: greet, status: ["COMPLETED"] });
const ids = [];
for await (const run of runs.list({ limit: 2, taskIdentifier: greet })) ids.push(run.id);
seen.list = { page: listed.data.length, more: listed.hasNextPage(), env: typeof listed.data[0].env.id, ids };
seen.byTag = (await runs.list({ tag: "first" })).data.map((run) => run.id);

// Cancel, reschedule, replay.
const delayed = await tasks.trigger(greet, { name: "later" }, { delay: "1h" });
seen.delayed = (await runs.retrieve(delayed.id)).status;
seen.rescheduled = (await runs.reschedule(delayed.id, { delay: "2h" })).status;
await runs.cancel(delayed.id);
seen.canceledDelayed = (await runs.retrieve(delayed.id)).status;
const held = await tasks.trigger(hold, {});
while ((await runs.retrieve(held.id)).status !== "EXECUTING") await new Promise((resolve) => setTimeout(resolve, 50));
await runs.cancel(held.id);
const canceled = await runs.retrieve(held.id);
seen.canceled = { status: canceled.status, isCancelled: canceled.isCancelled };
const again = await runs.replay(one.id);
seen.replayed = { differs: again.id !== one.id, output: (await ended(again.id)).output };

// Schedules.
const made = await schedules.create({ task: greet, cron: "0 3 * * *", timezone: "Europe/Paris", deduplicationKey: "nightly", externalId: "x1" });
const same = await schedules.create({ task: greet, cron: "0 4 * * *", timezone: "Europe/Paris", deduplicationKey: "nightly" });
const updated = await schedules.update(made.id, { task: greet, cron: "0 5 * * *", externalId: "x2" });
const off = await schedules.deactivate(made.id);
const on = await schedules.activate(made.id);
const kept = await schedules.retrieve(made.id);
seen.schedule = {
  type: made.type, task: made.task, active: [made.active, off.active, on.active], same: same.id === made.id,
  expressions: [made, same, updated, kept].map((each) => each.generator.expression), description: made.generator.description,
  timezone: made.timezone, externalIds: [made.externalId, updated.externalId], next: kept.nextRun instanceof Date,
};
seen.schedules = (await schedules.list()).data.map((each) => each.deduplicationKey);
seen.zones = (await schedules.timezones()).timezones.includes("Europe/Paris");
await schedules.del(made.id);
seen.schedulesLeft = (await schedules.list()).data.length;

// Tags, and a public token made on purpose.
await runs.retrieve(one.id);
const token = await auth.createPublicToken({ scopes: { read: { runs: [one.id] } } });
seen.publicToken = await auth.withAuth({ accessToken: token }, async () => (await runs.retrieve(one.id)).status);

// Wait tokens: made, completed once, listed, retrieved; a browser completes its own with the token that came with it.
const asked = await wait.createToken({ timeout: "1h", tags: ["approval"], idempotencyKey: `npm-${one.id}` });
const cached = await wait.createToken({ timeout: "1h", tags: ["approval"], idempotencyKey: `npm-${one.id}` });
await auth.withAuth({ accessToken: asked.publicAccessToken }, async () => {
  await wait.completeToken(asked.id, { approved: true, when: "now" });
});
const lost = await refusal(() => wait.completeToken(asked.id, { approved: false }));
const byUrl = await wait.createToken({ tags: ["approval"] });
const called = await fetch(byUrl.url, { method: "POST", body: JSON.stringify({ approved: 1 }) });
const answered = await wait.retrieveToken(asked.id);
const tokens = [];
for await (const each of wait.listTokens({ status: ["COMPLETED"], tags: ["approval"], limit: 1 })) tokens.push(each.id);
seen.tokens = {
  cached: [cached.id === asked.id, cached.isCached, cached.url === asked.url],
  lost: { status: lost.status, kind: lost.kind },
  called: called.status,
  answered: { status: answered.status, output: answered.output, dates: answered.completedAt instanceof Date },
  listed: [tokens.includes(asked.id), tokens.includes(byUrl.id)],
};

console.log(JSON.stringify(seen));
process.exit(0);
