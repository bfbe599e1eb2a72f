import { Box, Group, Loader, Modal, Text, TextInput } from '@mantine/core'
import { useDebouncedValue } from '@mantine/hooks'
import { IconSearch } from '@tabler/icons-react'
import { keepPreviousData, useQuery, useQueryClient } from '@tanstack/react-query'
import { useNavigate } from '@tanstack/react-router'
import { type KeyboardEvent, type ReactNode, useState } from 'react'
import type { Device } from '../api/client'
import { deviceName, isNamed } from '../features/devices/deviceName'
import { deviceSearchQuery } from '../features/devices/queries'
import { usePreferences } from '../state/preferences'
import { ErrorAlert } from '../ui/ErrorAlert'

interface CommandPaletteProps {
  close: () => void
  pages: readonly { to: string; label: string }[]
  admin: boolean
}

interface Target {
  key: string
  label: string
  note: string
  go: () => unknown
}

/** Pages and devices by a few letters, without a hand off the keyboard. */
export function CommandPalette({ close, pages, admin }: CommandPaletteProps): ReactNode {
  const navigate = useNavigate()
  const [text, setText] = useState('')
  const [at, setAt] = useState(0)
  const [words] = useDebouncedValue(text.trim(), 150)
  const found = useQuery({ ...deviceSearchQuery(words, admin), enabled: words !== '', placeholderData: keepPreviousData })
  const fits = (label: string) => label.toLowerCase().includes(text.trim().toLowerCase())
  const last = usePreferences().device_view_state.last_device
  const known = useQueryClient().getQueryData<Device>(['device', last])
  const targets: Target[] = [
    ...(words === '' && text === '' && last !== null
      ? [{ key: `last ${last}`, label: known === undefined ? last : deviceName(known), note: 'last device', go: () => navigate({ to: '/devices/$uid', params: { uid: last } }) }]
      : []),
    ...pages.filter((page) => fits(page.label)).map((page) => ({ key: page.to, label: page.label, note: 'page', go: () => navigate({ to: page.to }) })),
    ...(words === '' ? [] : (found.data?.items ?? [])).map((device) => ({
      key: device.uid,
      label: deviceName(device),
      note: isNamed(device) ? (device.owner?.email ?? device.uid) : device.uid,
      go: () => navigate({ to: '/devices/$uid', params: { uid: device.uid } }),
    })),
  ]
  const chosen = Math.min(at, targets.length - 1)
  const choose = (target: Target | undefined) => {
    if (target === undefined) return
    close()
    void target.go()
  }
  const key = (event: KeyboardEvent) => {
    const step = event.key === 'ArrowDown' ? 1 : event.key === 'ArrowUp' ? -1 : 0
    if (step !== 0) {
      event.preventDefault()
      setAt(Math.max(0, Math.min(targets.length - 1, chosen + step)))
    } else if (event.key === 'Enter') {
      event.preventDefault()
      choose(targets[chosen])
    }
  }
  return (
    <Modal opened onClose={close} title="Go to" closeButtonProps={{ 'aria-label': 'Close' }}>
      <TextInput
        data-autofocus
        aria-label="Page or device"
        placeholder="Page, or name or uid of a device"
        leftSection={<IconSearch size={16} aria-hidden />}
        rightSection={found.isFetching ? <Loader size={14} aria-hidden /> : null}
        value={text}
        maxLength={128}
        onChange={(e) => {
          setText(e.currentTarget.value)
          setAt(0)
        }}
        onKeyDown={key}
        autoComplete="off"
        spellCheck={false}
        role="combobox"
        aria-expanded
        aria-controls="hx-jump"
        aria-activedescendant={targets.length === 0 ? undefined : `hx-jump-${chosen}`}
      />
      {found.isError && <ErrorAlert thrown={found.error} title="Devices cannot be searched" />}
      <Box role="listbox" id="hx-jump" aria-label="Places" mt="xs" mah={320} style={{ overflowY: 'auto' }}>
        {targets.map((target, n) => (
          <Group
            key={target.key}
            id={`hx-jump-${n}`}
            ref={n === chosen ? (row) => row?.scrollIntoView({ block: 'nearest' }) : undefined}
            role="option"
            aria-selected={n === chosen}
            className={`hx-row ${n === chosen ? 'hx-chosen' : ''}`}
            justify="space-between"
            wrap="nowrap"
            px="sm"
            py={6}
            style={{ cursor: 'pointer', borderRadius: 6 }}
            onMouseEnter={() => setAt(n)}
            onClick={() => choose(target)}
          >
            <Text size="sm" truncate>
              {target.label}
            </Text>
            <Text size="xs" c="dimmed" truncate>
              {target.note}
            </Text>
          </Group>
        ))}
      </Box>
      {targets.length === 0 && !found.isFetching && (
        <Text size="sm" c="dimmed" role="status">
          No results.
        </Text>
      )}
    </Modal>
  )
}
