import type { Schemas } from '../../../api/client'

type Worker = Pick<Schemas['WorkerBody'], 'state' | 'last_run_at' | 'last_error'>

const STATES: Record<string, string> = {
  new: 'starting',
  idle: 'waiting',
  running: 'at work',
  backing_off: 'restarting',
  stopped: 'stopped',
}

/** The state as people read it. */
export const describeState = (state: string): string => STATES[state] ?? state

/** How often it runs: "every 5 s", "every hour". */
export function describePeriod(ms: number | null): string {
  if (ms === null) return 'when there is something to do'
  if (ms % 3_600_000 === 0) return ms === 3_600_000 ? 'every hour' : `every ${ms / 3_600_000} hours`
  if (ms % 60_000 === 0) return ms === 60_000 ? 'every minute' : `every ${ms / 60_000} minutes`
  return ms >= 1_000 ? `every ${ms / 1_000} s` : `every ${ms} ms`
}

/** Whether it needs somebody to look: it is restarting, or its last run failed. */
export function isUnwell({ state, last_run_at, last_error }: Worker): boolean {
  return state === 'backing_off' || (last_error !== null && last_run_at !== null && last_error.at >= last_run_at)
}
