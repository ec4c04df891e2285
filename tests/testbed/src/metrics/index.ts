export { MetricClient, type MetricClientOptions } from './client.ts';
export { shown } from './exact.ts';
export { type Expectation, judgeTotals } from './judge.ts';
export { type Group, MetricLedger } from './ledger.ts';
export { ENDLESS_LABEL, KEPT_LABEL, MetricProducer, type ProducerOptions } from './producer.ts';
export { type Point, readPoints } from './reader.ts';
export { metricsRequest, type SeriesKind, type SeriesPoint, type SeriesValue } from './request.ts';
