/** Short notices. What shows them is loaded with the first one, or when there is time. */
import type { NotificationData } from '@mantine/notifications'
import { useSyncExternalStore } from 'react'
import { onForget } from './resetSession'

let needed = false
let shown = false
const listeners = new Set<() => void>()

/** The corner for notices is to be there. */
export function needNotices(): void {
  needed = true
  for (const listener of listeners) listener()
}

export const useNoticesNeeded = (): boolean =>
  useSyncExternalStore(
    (listener) => {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    () => needed,
  )

/** The file that shows them as well: another copy would have notices of its own. */
const load = () => import('../ui/Notifications')

export function notify(notice: NotificationData): void {
  needNotices()
  shown = true
  // Without a server the first one may not come; what failed says so in its place as well.
  load().then(({ show }) => show(notice), () => undefined)
}

// They are about what somebody did who is gone.
onForget(() => {
  if (!shown) return
  shown = false
  load().then(({ clean }) => clean(), () => undefined)
})
