// Drives the oldest npm client that is promised to work, with what it had, and prints what it saw as JSON.
import { ApiError, auth, batch, configure, queues, runs, schedules, tasks, wait } from "@trigger.dev/sdk";

configure({ baseURL: process.env.TRIGGER_API_URL, accessToken: process.env.TRIGGER_SECRET_KEY });
const seen = {};
const ended = (id) => runs.poll(id, { pollIntervalMs: 100 });
const ids = async (pages) => {
  const found = [];
  for await (const each of pages) found.push(each.id);
  return found;
};

async function refusal(call) {
  try {
    await call();
    return null;
  } catch (error) {
    return { api: error instanceof ApiError, status: error.status };
  }
}

// Trigger, with what JSON lacks; poll; retrieve; the token that came with it; one run for one key.
const when = new Date("2026-11-21T12:00:00.000Z");
const payload = { name: "kelp", when, count: 3n, tags: new Set(["a"]), none: undefined };
const one = await tasks.trigger("greet", payload, { tags: ["npm", "first"], metadata: { source: "test" } });
const polled = await ended(one.id);
seen.polled = { status: polled.status, output: polled.output, payload: polled.payload, tags: polled.tags };
seen.token = await auth.withAuth({ accessToken: one.publicAccessToken }, async () => [
  (await runs.retrieve(one.id)).id === one.id,
  await refusal(() => runs.list()),
]);
const twice = async () => (await tasks.trigger("greet", { name: "twice" }, { idempotencyKey: "k" })).id;
seen.idempotent = (await twice()) === (await twice());
seen.unknown = [await refusal(() => tasks.trigger("none", {})), await refusal(() => runs.retrieve("run_none"))];

// Batches, which this client sends as one request.
const many = await tasks.batchTrigger("greet", [0, 1, 2].map((n) => ({ payload: { name: `batch ${n}` } })));
const mixed = await batch.trigger([{ id: "greet", payload: { name: "m0" } }, { id: "greet", payload: { name: "m1" } }]);
const outputs = [];
for (const { batchId } of [many, mixed]) {
  for (const id of (await batch.retrieve(batchId)).runs) outputs.push((await ended(id)).output);
}
seen.outputs = outputs;
seen.batches = [(await batch.retrieve(many.batchId)).status, (await batch.retrieve(mixed.batchId)).status];

// List; delay, reschedule, cancel, replay.
const page = await runs.list({ limit: 2, taskIdentifier: "greet", status: ["COMPLETED"] });
const all = await ids(runs.list({ limit: 2, taskIdentifier: "greet" }));
seen.list = [page.data.length, page.hasNextPage(), all.length, new Set(all).size];
const later = await tasks.trigger("greet", { name: "later" }, { delay: "1h", ttl: "2h", priority: 3, concurrencyKey: "c" });
seen.later = [(await runs.retrieve(later.id)).status, (await runs.reschedule(later.id, { delay: "2h" })).status];
await runs.cancel(later.id);
seen.later.push((await runs.retrieve(later.id)).status);
const again = await runs.replay(one.id);
seen.replayed = [again.id !== one.id, (await ended(again.id)).status];

// Schedules.
const times = { task: "greet", timezone: "Europe/Paris", deduplicationKey: "nightly" };
const made = await schedules.create({ ...times, cron: "0 3 * * *", externalId: "x1" });
const same = await schedules.create({ ...times, cron: "0 4 * * *" });
const updated = await schedules.update(made.id, { task: "greet", cron: "0 5 * * *" });
const off = await schedules.deactivate(made.id);
const on = await schedules.activate(made.id);
seen.schedule = {
  same: same.id === made.id,
  expressions: [made, same, updated, await schedules.retrieve(made.id)].map((each) => each.generator.expression),
  active: [made.active, off.active, on.active],
  listed: (await schedules.list()).data.map((each) => each.deduplicationKey),
  zones: (await schedules.timezones()).timezones.includes("Europe/Paris"),
};
await schedules.del(made.id);
seen.schedule.left = (await schedules.list()).data.length;

// Queues.
const own = { type: "task", name: "greet" };
const paused = await queues.pause(own);
const held = await tasks.trigger("greet", { name: "held" });
const waiting = await queues.retrieve(own);
const resumed = await queues.resume(own);
seen.queue = {
  listed: (await ids(queues.list())).length,
  paused: [paused.paused, waiting.paused, resumed.paused],
  queued: waiting.queued,
  then: (await ended(held.id)).status,
};

// Tokens.
const asked = await wait.createToken({ timeout: "1h", tags: ["approval"] });
await wait.completeToken(asked.id, { approved: true });
const answered = await wait.retrieveToken(asked.id);
seen.tokens = [answered.status, answered.output, await ids(wait.listTokens({ tags: ["approval"] }))].flat();
seen.asked = asked.id;

console.log(JSON.stringify(seen));
process.exit(0);
