import { Button, Group, Stack, Text } from '@mantine/core'
import { useQueryClient } from '@tanstack/react-query'
import { useNavigate } from '@tanstack/react-router'
import { type ReactNode, useState } from 'react'
import { api, ask, type Device } from '../../api/client'
import { keyed, once } from '../../state/idempotentRequest'
import { Confirm } from '../../ui/ConfirmDialog'
import { notifyDone } from '../../ui/ErrorAlert'
import { Secret } from '../../ui/SecretDialog'
import { When } from '../../ui/bits'

type Asked = 'rotate' | 'release' | 'code' | 'delete' | null

interface Told {
  title: string
  value: string
  until: string
  what: string
}

/** What changes a device for good: its token, its owner, its being there. */
export function DeviceActions({ device, admin }: { device: Device; admin: boolean }): ReactNode {
  const [asked, setAsked] = useState<Asked>(null)
  const [told, setTold] = useState<Told | null>(null)
  const client = useQueryClient()
  const navigate = useNavigate()
  const path = { uid: device.uid }
  const claimed = device.claimed_at != null
  const shown = device.name ?? device.uid
  const close = () => setAsked(null)
  const again = () => client.invalidateQueries({ queryKey: ['device', device.uid] })

  const rotate = async () => {
    const answer = await once(['rotate', path], (key) => ask(api().POST('/api/v1/devices/{uid}/token/rotate', { params: { path, header: keyed(key) } })))
    setTold({ title: 'The new device token', value: answer.device_token, until: answer.previous_valid_until, what: 'It is shown once. The old one is good until' })
    await again()
  }
  const release = async () => {
    const answer = await once(['release', path], (key) => ask(api().POST('/api/v1/devices/{uid}/release', { params: { path, header: keyed(key) } })))
    setTold({ title: 'The claim code for the next owner', value: answer.claim_code, until: answer.claim_expires_at, what: 'It is shown once, and good until' })
    void client.invalidateQueries({ queryKey: ['devices'] })
    if (admin) await again()
  }
  const code = async () => {
    const answer = await once(['code', path], (key) => ask(api().POST('/api/v1/devices/{uid}/claim-code', { params: { path, header: keyed(key) } })))
    setTold({ title: 'A new claim code', value: answer.claim_code, until: answer.claim_expires_at, what: 'The old one is dead. It is shown once, and good until' })
  }
  const remove = async () => {
    await once(['delete', path], (key) => ask(api().DELETE('/api/v1/devices/{uid}', { params: { path, header: keyed(key) } })))
    notifyDone(`${shown} is deleted`)
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
        <Button size="xs" variant="default" onClick={() => setAsked('rotate')}>
          Rotate the token
        </Button>
        {claimed && (
          <Button size="xs" variant="default" onClick={() => setAsked('release')}>
            Release
          </Button>
        )}
        {!claimed && admin && (
          <Button size="xs" variant="default" onClick={() => setAsked('code')}>
            New claim code
          </Button>
        )}
        {admin && (
          <Button size="xs" variant="outline" color="red" onClick={() => setAsked('delete')}>
            Delete
          </Button>
        )}
      </Group>
      <Confirm opened={asked === 'rotate'} close={close} title="Rotate the token" action="Rotate" run={rotate}>
        The device gets a new token, which you put into it. The old one stays good for a while, and ends as soon as the new one is used.
      </Confirm>
      <Confirm opened={asked === 'release'} close={close} title={`Release ${shown}`} action="Release" danger run={release}>
        It is nobody&apos;s then: names and sharing end, and whoever has the code that comes next can claim it.
      </Confirm>
      <Confirm opened={asked === 'code'} close={close} title="New claim code" action="Make one" run={code}>
        For a device whose code is lost or too old.
      </Confirm>
      <Confirm opened={asked === 'delete'} close={close} title={`Delete ${shown}`} action="Delete" danger typed={device.uid} run={remove}>
        The device is cut off and forgotten; to come back it must be provisioned anew. The audit keeps what happened.
      </Confirm>
      <Secret title={told?.title ?? ''} value={told?.value ?? null} close={() => setTold(null)}>
        {told?.what} <When at={told?.until} />.
      </Secret>
    </Stack>
  )
}
