import { Button, Group, Stack, Text } from '@mantine/core'
import { useQueryClient } from '@tanstack/react-query'
import { useNavigate } from '@tanstack/react-router'
import { type ReactNode, useState } from 'react'
import { api, type Device, unwrap } from '../../api/client'
import { idempotencyHeader } from '../../api/idempotency'
import { withIdempotencyKey } from '../../state/idempotentRequest'
import { ConfirmDialog } from '../../ui/ConfirmDialog'
import { notifySuccess } from '../../ui/ErrorAlert'
import { RelativeTime } from '../../ui/RelativeTime'
import { SecretDialog } from '../../ui/SecretDialog'
import { uniqueDeviceName } from './deviceName'

type Action = 'rotate' | 'release' | 'code' | 'delete' | null

interface Secret {
  title: string
  value: string
  validUntil: string
  note: string
}

/** Actions that cannot be undone: a new token or claim code, release, deletion. */
export function DeviceActions({ device, admin }: { device: Device; admin: boolean }): ReactNode {
  const [action, setAction] = useState<Action>(null)
  const [secret, setSecret] = useState<Secret | null>(null)
  const client = useQueryClient()
  const navigate = useNavigate()
  const path = { uid: device.uid }
  const claimed = device.claimed_at != null
  const name = uniqueDeviceName(device)
  const close = () => setAction(null)
  const refresh = () => client.invalidateQueries({ queryKey: ['device', device.uid] })

  const rotate = async () => {
    const answer = await withIdempotencyKey(['rotate', path], (key) => unwrap(api().POST('/api/v1/devices/{uid}/token/rotate', { params: { path, header: idempotencyHeader(key) } })))
    setSecret({ title: 'New device token', value: answer.device_token, validUntil: answer.previous_valid_until, note: 'It is shown only once. The old token is valid until' })
    await refresh()
  }
  const release = async () => {
    const answer = await withIdempotencyKey(['release', path], (key) => unwrap(api().POST('/api/v1/devices/{uid}/release', { params: { path, header: idempotencyHeader(key) } })))
    setSecret({ title: 'Claim code for the next owner', value: answer.claim_code, validUntil: answer.claim_expires_at, note: 'It is shown only once, and valid until' })
    void client.invalidateQueries({ queryKey: ['devices'] })
    if (admin) await refresh()
  }
  const code = async () => {
    const answer = await withIdempotencyKey(['code', path], (key) => unwrap(api().POST('/api/v1/devices/{uid}/claim-code', { params: { path, header: idempotencyHeader(key) } })))
    setSecret({ title: 'New claim code', value: answer.claim_code, validUntil: answer.claim_expires_at, note: 'The old code no longer works. The new one is shown only once, and valid until' })
  }
  const remove = async () => {
    await withIdempotencyKey(['delete', path], (key) => unwrap(api().DELETE('/api/v1/devices/{uid}', { params: { path, header: idempotencyHeader(key) } })))
    notifySuccess(`${name} was deleted`)
    client.removeQueries({ queryKey: ['device', device.uid] })
    void client.invalidateQueries({ queryKey: ['devices'] })
    await navigate({ to: '/devices' })
  }
  return (
    <Stack gap="sm">
      <Text size="xs" c="dimmed">
        {device.uid}
      </Text>
      <Group gap="xs">
        <Button size="xs" variant="default" onClick={() => setAction('rotate')}>
          Rotate token
        </Button>
        {claimed && (
          <Button size="xs" variant="default" onClick={() => setAction('release')}>
            Release
          </Button>
        )}
        {!claimed && admin && (
          <Button size="xs" variant="default" onClick={() => setAction('code')}>
            New claim code
          </Button>
        )}
        {admin && (
          <Button size="xs" variant="outline" color="red" onClick={() => setAction('delete')}>
            Delete
          </Button>
        )}
      </Group>
      <ConfirmDialog opened={action === 'rotate'} close={close} title="Rotate token" action="Rotate" run={rotate}>
        A new token is created, which you must enter on the device. The old one stays valid for a while, and ends as soon as the new one is used.
      </ConfirmDialog>
      <ConfirmDialog opened={action === 'release'} close={close} title={`Release ${name}`} action="Release" danger run={release}>
        The device will have no owner: its names and sharing are removed, and whoever has the new claim code can claim it.
      </ConfirmDialog>
      <ConfirmDialog opened={action === 'code'} close={close} title="New claim code" action="Create code" run={code}>
        For a device whose claim code was lost or has expired. The old code stops working.
      </ConfirmDialog>
      <ConfirmDialog opened={action === 'delete'} close={close} title={`Delete ${name}`} action="Delete" danger confirmText={device.uid} run={remove}>
        The device is disconnected and removed; to return, it must be provisioned again. The audit log keeps its history.
      </ConfirmDialog>
      <SecretDialog title={secret?.title ?? ''} value={secret?.value ?? null} close={() => setSecret(null)}>
        {secret?.note} <RelativeTime at={secret?.validUntil} />.
      </SecretDialog>
    </Stack>
  )
}
