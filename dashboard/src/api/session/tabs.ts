/** Tabs of one browser that keep out of each other's way. */
import { keeps, read, remove, write } from '../storage'

/** A line to the other tabs; none where the browser has or allows none. */
export function channel(name: string): BroadcastChannel | null {
  try {
    return typeof BroadcastChannel === 'undefined' ? null : new BroadcastChannel(name)
  } catch {
    // Firefox with cookies blocked.
    return null
  }
}

/** A tab that was closed in the middle of its work is in nobody's way for longer than this. */
const LEASE_MS = 25_000
/** Until what one tab wrote is seen by all: browsers tell each other's processes within milliseconds. */
const SETTLE_MS = 40
const LOOK_MS = 80

interface Lease {
  by: string
  until: number
}

const pause = (ms: number) => new Promise<void>((done) => setTimeout(done, ms * (1 + Math.random())))

const holder = (key: string): string | null => {
  const found = read<Partial<Lease>>(key)
  const left = typeof found?.until === 'number' ? found.until - Date.now() : 0
  // A clock that was set back holds nobody up.
  return typeof found?.by === 'string' && left > 0 && left <= LEASE_MS ? found.by : null
}

/** Runs alone among the tabs that write the same key: whoever's mark is still there after a moment. */
async function leased<T>(key: string, work: () => Promise<T>): Promise<T> {
  const own = Math.random().toString(36).slice(2)
  while (holder(key) !== own) {
    if (holder(key) !== null) {
      await pause(LOOK_MS)
      continue
    }
    write(key, { by: own, until: Date.now() + LEASE_MS } satisfies Lease)
    await pause(SETTLE_MS)
  }
  try {
    return await work()
  } finally {
    if (holder(key) === own) remove(key)
  }
}

/**
 * Runs alone among all tabs: under a lock of the browser where it has one (not on plain HTTP from another machine), else
 * by marks in storage. `sure` is true under a lock; beside a mark, and more so without one, another tab may do the same.
 */
export async function alone<T>(key: string, work: (sure: boolean) => Promise<T>): Promise<T> {
  const locks = (navigator as { locks?: LockManager }).locks
  const running: Promise<T>[] = []
  try {
    await locks?.request(key, () => {
      const mine = work(true)
      running.push(mine)
      return mine.then(() => undefined, () => undefined)
    })
  } catch {
    // The browser refuses locks where it refuses storage.
  }
  if (running[0] !== undefined) return running[0]
  return keeps() ? leased(key, () => work(false)) : work(false)
}
