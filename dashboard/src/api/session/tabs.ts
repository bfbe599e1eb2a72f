/** Coordination between the tabs of one browser. */
import { isStorageAvailable, read, remove, write } from '../storage'

/** A channel to the other tabs; `null` where the browser has or allows none. */
export function openChannel(name: string): BroadcastChannel | null {
  try {
    return typeof BroadcastChannel === 'undefined' ? null : new BroadcastChannel(name)
  } catch {
    // Firefox throws when cookies are blocked.
    return null
  }
}

/** A lease ends after this time, in case its tab was closed meanwhile. */
const LEASE_MS = 25_000
/** How long a write takes at most to be visible in every tab. */
const PROPAGATION_MS = 40
const POLL_MS = 80

interface Lease {
  by: string
  until: number
}

const pause = (ms: number) => new Promise<void>((done) => setTimeout(done, ms * (1 + Math.random())))

const leaseHolder = (key: string): string | null => {
  const found = read<Partial<Lease>>(key)
  const left = typeof found?.until === 'number' ? found.until - Date.now() : 0
  // A clock that was set back must not extend a lease.
  return typeof found?.by === 'string' && left > 0 && left <= LEASE_MS ? found.by : null
}

/** Runs `work` alone among the tabs that use this key: the tab whose lease is still there after a moment wins. */
async function withLease<T>(key: string, work: () => Promise<T>): Promise<T> {
  const own = Math.random().toString(36).slice(2)
  while (leaseHolder(key) !== own) {
    if (leaseHolder(key) !== null) {
      await pause(POLL_MS)
      continue
    }
    write(key, { by: own, until: Date.now() + LEASE_MS } satisfies Lease)
    await pause(PROPAGATION_MS)
  }
  try {
    return await work()
  } finally {
    if (leaseHolder(key) === own) remove(key)
  }
}

/**
 * Runs `work` alone among all tabs: under a lock of the browser where it has one (not on plain HTTP from another
 * machine), else with a lease in storage. `exclusive` is true under a lock only: without one, another tab may run too.
 */
export async function withTabLock<T>(key: string, work: (exclusive: boolean) => Promise<T>): Promise<T> {
  const locks = (navigator as { locks?: LockManager }).locks
  const running: Promise<T>[] = []
  try {
    await locks?.request(key, () => {
      const result = work(true)
      running.push(result)
      return result.then(() => undefined, () => undefined)
    })
  } catch {
    // The browser refuses locks where it refuses storage.
  }
  if (running[0] !== undefined) return running[0]
  return isStorageAvailable() ? withLease(key, () => work(false)) : work(false)
}
