/** The server's clock: this machine's may be wrong by hours. */

/** Smaller differences are ignored: the header has whole seconds, and answers take time. */
const TOLERANCE_MS = 5_000
/** Smaller changes of the difference are ignored. */
const MIN_CHANGE_MS = 2_000

let skewMs = 0
const listeners = new Set<() => void>()

/** Learns the server's time from the `Date` header of an answer. */
export function recordServerDate(response: Response): void {
  const date = Date.parse(response.headers.get('date') ?? '')
  if (!Number.isFinite(date)) return
  const difference = date - Date.now()
  const next = Math.abs(difference) > TOLERANCE_MS ? difference : 0
  if (Math.abs(next - skewMs) < MIN_CHANGE_MS) return
  skewMs = next
  for (const listener of listeners) listener()
}

/** The server's time, in ms since the epoch. */
export const serverNow = (): number => Date.now() + skewMs

/** How far the server's clock is ahead of this machine's, in ms; 0 where the difference is small. */
export const serverClock = {
  skewMs: (): number => skewMs,
  subscribe: (listener: () => void): (() => void) => {
    listeners.add(listener)
    return () => listeners.delete(listener)
  },
}
