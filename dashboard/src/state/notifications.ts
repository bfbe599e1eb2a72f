/** Notifications. Their component is loaded with the first one, or when the page is idle. */
import type { NotificationData } from '@mantine/notifications'
import { useSyncExternalStore } from 'react'
import { onSessionReset } from './resetSession'

let mounted = false
let shown = false
const listeners = new Set<() => void>()

/** Mounts the component that shows notifications. */
export function mountNotifications(): void {
  mounted = true
  for (const listener of listeners) listener()
}

export const useNotificationsMounted = (): boolean =>
  useSyncExternalStore(
    (listener) => {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    () => mounted,
  )

/** The same module as the component's: another copy would have a store of its own. */
const load = () => import('../ui/NotificationArea')

/** Shows a notification in the corner. */
export function notify(notification: NotificationData): void {
  mountNotifications()
  shown = true
  // Without a server the module may not load; errors are shown in their place as well.
  load().then(({ show }) => show(notification), () => undefined)
}

// They concern the account that signed out.
onSessionReset(() => {
  if (!shown) return
  shown = false
  load().then(({ clean }) => clean(), () => undefined)
})
