export { Balancer } from './balancer.ts';
export { BatchMaker } from './batch-maker.ts';
export { Browser, findChromium, type Page, type View } from './browser.ts';
export { encodeJson, encodeProtobuf, type Message } from './encoder.ts';
export {
  type BatchReceipt,
  clockMs,
  type GenerateEvents,
  type GenerateReport,
  type GivenWorkload,
  generate,
  type Progress,
} from './generator.ts';
export {
  mix32,
  seededRandom,
  TEST_CLASSES,
  TEST_SIGNALS,
  type TestClass,
  type TestSignal,
} from './identity.ts';
export { LatencyHistogram, type LatencySummary } from './latency.ts';
export * from './metrics/index.ts';
export {
  type Behaviour,
  HEALTHY,
  type KeptRequest,
  type MockStats,
  type MockUpstream,
  startMockUpstream,
} from './mock-upstream.ts';
export { NEW_RELIC_LIMITS, NEW_RELIC_RULES, type NewRelicRule, readAsNewRelic } from './new-relic.ts';
export { complaint, type Judgement, judge, type Obligations } from './oracle.ts';
export { freePort, hasRedis, Process, startNrdot, TestRedis, temporaryDirectory } from './processes.ts';
export { RawClient } from './raw-client.ts';
export { SequenceSet } from './sequence-set.ts';
export { waitUntil } from './wait-until.ts';
export { PROFILES, type Workload, workload } from './workload.ts';
