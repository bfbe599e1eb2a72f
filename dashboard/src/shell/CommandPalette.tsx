import '@mantine/spotlight/styles.css'
import { Loader, Text } from '@mantine/core'
import { useDebouncedValue } from '@mantine/hooks'
import { createSpotlightStore, Spotlight, useSpotlight } from '@mantine/spotlight'
import { IconSearch } from '@tabler/icons-react'
import { keepPreviousData, useQuery } from '@tanstack/react-query'
import { useNavigate } from '@tanstack/react-router'
import { type ReactNode, useEffect, useState } from 'react'
import { deviceName, isNamed } from '../features/devices/deviceName'
import { deviceQuery, deviceSearchQuery } from '../features/devices/queries'
import { usePreferences } from '../state/preferences'
import { ErrorAlert } from '../ui/ErrorAlert'
import type { MenuPage } from './navigation'

interface CommandPaletteProps {
  /** How often it was opened; each time it opens again. */
  openCount: number
  pages: readonly MenuPage[]
  admin: boolean
}

interface Target {
  key: string
  label: string
  note: string
  open: () => unknown
}

const silent = createSpotlightStore()
/** The library's store, which does not notify of a new selection by itself; screen readers must hear of it. */
const store = { ...silent, setState: silent.setState.bind(silent), updateState: silent.setState.bind(silent) } satisfies typeof silent
const close = () => store.setState({ ...store.getState(), opened: false })
/** Opens it with an empty query, also while it is still fading out. */
const open = () => store.setState({ ...store.getState(), opened: true, selected: 0, query: '' })

const LIST_ID = 'hx-palette'
const optionId = (index: number) => `${LIST_ID}-${index}`

/** What the palette leads to: the last device, pages and devices that match the query. */
function useTargets(opened: boolean, query: string, pages: readonly MenuPage[], admin: boolean) {
  const navigate = useNavigate()
  const typed = query.trim()
  const [search] = useDebouncedValue(typed, 150)
  const found = useQuery({ ...deviceSearchQuery(search, admin), enabled: search !== '', placeholderData: keepPreviousData })
  const lastUid = usePreferences().device_view_state.last_device
  const last = useQuery({ ...deviceQuery(lastUid ?? ''), enabled: opened && lastUid !== null && typed === '', refetchInterval: false })
  const openDevice = (uid: string) => () => navigate({ to: '/devices/$uid', params: { uid } })

  const targets: Target[] = []
  // A device that was deleted, or is no longer shared, is left out.
  if (typed === '' && lastUid !== null && !last.isError)
    targets.push({ key: `last ${lastUid}`, label: last.data === undefined ? lastUid : deviceName(last.data), note: 'last device', open: openDevice(lastUid) })
  for (const { to, label } of pages)
    if (label.toLowerCase().includes(typed.toLowerCase())) targets.push({ key: to, label, note: 'page', open: () => navigate({ to }) })
  for (const device of search === '' ? [] : (found.data?.items ?? [])) {
    const note = isNamed(device) ? (device.owner?.email ?? device.uid) : device.uid
    targets.push({ key: device.uid, label: deviceName(device), note, open: openDevice(device.uid) })
  }
  return { targets, found }
}

/** Opens pages and devices by a few letters, with the keyboard alone. */
export function CommandPalette({ openCount, pages, admin }: CommandPaletteProps): ReactNode {
  const { opened, query, selected } = useSpotlight(store)
  const { targets, found } = useTargets(opened, query, pages, admin)
  const [navigated, setNavigated] = useState(false)
  // The first option is selected until the user selects another one.
  const current = Math.min(Math.max(selected, 0), targets.length - 1)
  useEffect(() => {
    if (selected !== current) store.updateState((state) => ({ ...state, selected: current }))
  }, [selected, current])
  useEffect(() => {
    open()
    return close
  }, [openCount])
  return (
    <Spotlight.Root
      store={store}
      shortcut={null}
      // A blurred background is slow without a graphics card.
      overlayProps={{ blur: 0 }}
      attributes={{ content: { 'aria-label': 'Go to' } }}
      // The new page takes the focus.
      returnFocus={!navigated}
      onSpotlightOpen={() => setNavigated(false)}
    >
      <Spotlight.Search
        data-autofocus
        role="combobox"
        aria-label="Page or device"
        aria-expanded
        aria-controls={LIST_ID}
        aria-activedescendant={targets.length === 0 ? undefined : optionId(current)}
        placeholder="Page, or name or uid of a device"
        leftSection={<IconSearch size={18} aria-hidden />}
        rightSection={found.isFetching ? <Loader size={16} aria-hidden /> : null}
        maxLength={128}
        autoComplete="off"
        spellCheck={false}
      />
      {found.isError && <ErrorAlert thrown={found.error} title="Devices cannot be searched" />}
      <Spotlight.ActionsList id={LIST_ID} role="listbox" aria-label="Results">
        {targets.map((target, index) => (
          <Spotlight.Action
            key={target.key}
            ref={(option) => {
              // The component takes no `id`.
              if (option !== null) option.id = optionId(index)
            }}
            role="option"
            aria-selected={index === current}
            data-selected={index === current || undefined}
            label={target.label}
            dimmedSections={false}
            rightSection={
              <Text span size="xs" c={index === current ? 'inherit' : 'dimmed'}>
                {target.note}
              </Text>
            }
            onClick={() => {
              setNavigated(true)
              void target.open()
            }}
          />
        ))}
      </Spotlight.ActionsList>
      {targets.length === 0 && !found.isFetching && <Spotlight.Empty role="status">No results</Spotlight.Empty>}
    </Spotlight.Root>
  )
}
