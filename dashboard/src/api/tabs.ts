/** Tabs of one browser that keep out of each other's way. */
import { asApiError } from './error'

const LOCK = 'hexa.refresh'

/** Runs alone among all tabs, where the browser can (it cannot on plain HTTP from another machine). */
export async function alone<T>(work: () => Promise<T>): Promise<T> {
  const locks = (navigator as { locks?: LockManager }).locks
  if (locks === undefined) return work()
  let done: { value: T } | undefined
  await locks.request(LOCK, async () => {
    done = { value: await work() }
  })
  if (done === undefined) throw asApiError(new Error('the lock was not granted'))
  return done.value
}
