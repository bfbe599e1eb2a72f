import '@mantine/core/styles/Notification.css'
import '@mantine/notifications/styles.css'
import { type NotificationData, Notifications, notifications } from '@mantine/notifications'
import type { ReactNode } from 'react'

export const show = (notification: NotificationData): string => notifications.show(notification)
export const clean = (): void => notifications.clean()

/** Where notifications appear; loaded with the first one. */
export function NotificationArea(): ReactNode {
  return <Notifications position="bottom-right" limit={4} />
}
