/** The services, in the order in which data flows. */
export const SERVICES = ['receiver', 'scheduler', 'exporter', 'dlq'] as const;
export type ServiceName = (typeof SERVICES)[number];
