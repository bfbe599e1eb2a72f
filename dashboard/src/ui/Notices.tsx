import '@mantine/core/styles/Notification.css'
import '@mantine/notifications/styles.css'
import { Notifications } from '@mantine/notifications'
import type { ReactNode } from 'react'

/** Where short notices appear; loaded with the first of them. */
export function Notices(): ReactNode {
  return <Notifications position="bottom-right" limit={4} />
}
