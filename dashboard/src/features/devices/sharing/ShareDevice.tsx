import { Button, Group, MultiSelect, NumberInput, Select, Stack, TextInput } from '@mantine/core'
import { useForm } from '@mantine/form'
import { useMutation, useQueryClient } from '@tanstack/react-query'
import type { ReactNode } from 'react'
import { api, type Device, unwrap } from '../../../api/client'
import { idempotencyHeader } from '../../../api/idempotency'
import { withIdempotencyKey } from '../../../state/idempotentRequest'
import { ErrorAlert, notifySuccess } from '../../../ui/ErrorAlert'

const DURATIONS = [
  { value: '', label: 'no limit' },
  { value: '1', label: '1 hour' },
  { value: '24', label: '1 day' },
  { value: '168', label: '1 week' },
]
const ACCESS = [
  { value: 'control', label: 'view and switch' },
  { value: 'read', label: 'view only' },
]

interface ShareValues {
  email: string
  access: 'read' | 'control'
  /** Indices as text; empty for the whole device. */
  relays: string[]
  /** Empty for no limit. */
  hours: string
  /** The number of commands; empty for no limit. */
  uses: number | string
}

/** The form that shares a device with another account. */
export function ShareDevice({ device }: { device: Device }): ReactNode {
  const form = useForm<ShareValues>({ initialValues: { email: '', access: 'control', relays: [], hours: '', uses: '' } })
  const client = useQueryClient()
  const share = useMutation({
    mutationFn: ({ email, access, relays, hours, uses }: ShareValues) => {
      const body = {
        email: email.trim(),
        access,
        ...(relays.length === 0 ? {} : { relays: relays.map(Number) }),
        ...(typeof uses === 'number' ? { max_uses: uses } : {}),
      }
      return withIdempotencyKey(['share', device.uid, body, hours], (key, startedAt) => {
        const expires_at = hours === '' ? {} : { expires_at: new Date(startedAt + Number(hours) * 3_600_000).toISOString() }
        const params = { path: { uid: device.uid }, header: idempotencyHeader(key) }
        return unwrap(api().POST('/api/v1/devices/{uid}/grants', { params, body: { ...body, ...expires_at } }))
      })
    },
    onSuccess: (grant) => {
      void client.invalidateQueries({ queryKey: ['grants', device.uid] })
      notifySuccess(`Shared with ${grant.user.email}`)
      form.setFieldValue('email', '')
    },
  })
  const { access, relays } = form.values
  return (
    <form onSubmit={form.onSubmit((values) => share.mutate(values))}>
      <Stack gap="xs">
        <TextInput label="Share with" type="email" placeholder="e-mail of their account" required autoComplete="off" {...form.getInputProps('email')} />
        <Group grow gap="xs" align="flex-end">
          <Select label="Access" data={ACCESS} allowDeselect={false} {...form.getInputProps('access')} />
          <Select label="Duration" data={DURATIONS} allowDeselect={false} {...form.getInputProps('hours')} />
          <NumberInput label="Commands" placeholder="no limit" min={1} max={1_000_000} allowDecimal={false} disabled={access === 'read'} {...form.getInputProps('uses')} />
        </Group>
        <MultiSelect
          label="Relays"
          placeholder={relays.length === 0 ? 'whole device' : ''}
          data={device.relays.map((r) => ({ value: String(r.index), label: r.name ?? `Relay ${r.index}` }))}
          {...form.getInputProps('relays')}
        />
        {share.isError && <ErrorAlert thrown={share.error} title="The device was not shared" />}
        <Group>
          <Button type="submit" size="xs" loading={share.isPending}>
            Share
          </Button>
        </Group>
      </Stack>
    </form>
  )
}
