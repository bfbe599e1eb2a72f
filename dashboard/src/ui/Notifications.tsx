import '@mantine/core/styles/Notification.css'
import '@mantine/notifications/styles.css'
import { type NotificationData, Notifications, notifications } from '@mantine/notifications'
import type { ReactNode } from 'react'

export const show = (notice: NotificationData): string => notifications.show(notice)
export const clean = (): void => notifications.clean()

/** Where short notices appear; loaded with the first of them. */
export function Notices(): ReactNode {
  return <Notifications position="bottom-right" limit={4} />
}
