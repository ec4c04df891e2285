import { type Diagnosis, Doctor, DoctorBusy, type Store } from '@nrdot/queue';
import { AdminError, type Host } from '@nrdot/service';

/**
 * `nrdot doctor` on the admin address: GET examines what Redis holds and changes nothing, POST repairs it. A repair is recorded
 * as an event.
 */
export function addDoctor(
  host: Pick<Host, 'admin' | 'log' | 'transitions'>,
  store: Store,
  { maxBodyBytes, notReady }: { maxBodyBytes: number; notReady(): string | undefined },
): void {
  const run = async (repair: boolean): Promise<Diagnosis> => {
    const reason = notReady();
    if (reason !== undefined) throw new AdminError(503, 'redis_away', `nothing can be examined: ${reason}`);
    const doctor = new Doctor(store, {
      maxBodyBytes,
      odd: (line) => host.log.warn(`a foreign job: ${line}`),
    });
    const diagnosis = await doctor.run(repair).catch((error: Error) => {
      if (error instanceof DoctorBusy) throw new AdminError(409, 'doctor_busy', error.message);
      throw error;
    });
    for (const { kind, mended, text, examples } of diagnosis.damage)
      if (mended > 0)
        host.transitions.happened(
          'doctor',
          `Repaired by an operator (nrdot doctor --repair), ${kind}: ${mended}, such as ${examples[0]}. ${text}`,
          'warn',
        );
    return diagnosis;
  };
  host.admin.route('GET', '/api/doctor', () => run(false));
  host.admin.route('POST', '/api/doctor', () => run(true));
}
