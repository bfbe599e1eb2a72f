import { useQueryClient } from '@tanstack/react-query'
import type { ReactNode } from 'react'
import { type Account, api, unwrap } from '../../../api/client'
import { ConfirmDialog } from '../../../ui/ConfirmDialog'
import { notifySuccess } from '../../../ui/ErrorAlert'
import { pluralize } from '../../../ui/pluralize'

export type ChangeKind = 'admin' | 'user' | 'activate' | 'deactivate' | 'sessions'
/** A change that waits for confirmation; `null` for none. */
export type UserChange = { user: Account; kind: ChangeKind } | null

const TEXTS: Record<ChangeKind, { title: string; action: string; about: string; done: string; danger: boolean }> = {
  admin: { title: 'Grant admin role', action: 'Grant admin role', about: 'will see and control every device, and manage accounts.', done: 'is an admin now', danger: true },
  user: { title: 'Remove admin role', action: 'Remove admin role', about: 'will see only their own and shared devices, from their next request on.', done: 'is no longer an admin', danger: false },
  activate: { title: 'Activate', action: 'Activate', about: 'will be able to sign in again.', done: 'is active again', danger: false },
  deactivate: { title: 'Deactivate', action: 'Deactivate', about: 'will be signed out everywhere immediately, and cannot sign in. They keep their devices.', done: 'is deactivated', danger: true },
  sessions: { title: 'End all sessions', action: 'End sessions', about: 'will be signed out everywhere, and can sign in again.', done: '', danger: true },
}

/** Asks for confirmation, then changes the account. */
export function ChangeUser({ change, close }: { change: UserChange; close: () => void }): ReactNode {
  const client = useQueryClient()
  const run = async () => {
    if (change === null) return
    const { user, kind } = change
    const path = { id: user.id }
    if (kind === 'sessions') {
      const { ended } = await unwrap(api().DELETE('/api/v1/admin/users/{id}/sessions', { params: { path } }))
      notifySuccess(`${pluralize(ended, 'session')} of ${user.email} ended`)
    } else {
      const body = kind === 'admin' || kind === 'user' ? { role: kind } : { active: kind === 'activate' }
      await unwrap(api().PATCH('/api/v1/admin/users/{id}', { params: { path }, body }))
      notifySuccess(`${user.email} ${TEXTS[kind].done}`)
    }
    await Promise.all([client.invalidateQueries({ queryKey: ['users'] }), client.invalidateQueries({ queryKey: ['user', user.id] })])
  }
  const text = change === null ? null : TEXTS[change.kind]
  return (
    <ConfirmDialog opened={change !== null} close={close} title={text?.title ?? ''} action={text?.action ?? ''} danger={text?.danger ?? false} run={run}>
      {change?.user.email} {text?.about}
    </ConfirmDialog>
  )
}
