/** Short notices. What shows them is loaded with the first one, or when there is time. */
import type { NotificationData } from '@mantine/notifications'
import { useSyncExternalStore } from 'react'

let needed = false
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

export function notify(notice: NotificationData): void {
  needNotices()
  // Without a server the first one may not come; what failed says so in its place as well.
  import('@mantine/notifications').then(({ notifications }) => notifications.show(notice), () => undefined)
}
