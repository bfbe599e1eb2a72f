import { Box, Button, Paper, Text, VisuallyHidden } from '@mantine/core'
import { useDisclosure } from '@mantine/hooks'
import { IconPlus } from '@tabler/icons-react'
import { useQueryClient } from '@tanstack/react-query'
import { useVirtualizer } from '@tanstack/react-virtual'
import { type ReactNode, useEffect, useMemo, useRef, useState } from 'react'
import type { Device } from '../../api/client'
import { devicePage } from '../../api/queries'
import { DEVICE_SEARCH, devicesRoute } from '../../router'
import { onForget } from '../../state/resetSession'
import { useStructure, useWatch } from '../../state/live'
import { usePages } from '../../state/useKeysetPages'
import { change, preferences, usePreferences } from '../../state/preferences'
import { useAdmin } from '../../state/useSession'
import { counted, Empty, PageTitle, Waiting } from '../../ui/bits'
import { later } from '../../ui/lazyComponent'
import { Problem } from '../../ui/ErrorAlert'
import { asQuery, type DeviceSearch, Filters, isFiltered } from './DeviceFilters'
import { Head, Row } from './DeviceRow'

const Claim = later(() => import('./ClaimDevice').then((m) => m.Claim))

/** Where somebody was in a list when they left it. */
const offsets = new Map<string, number>()
onForget(() => offsets.clear())

const uidOf = (device: Device) => device.uid

/** Members that say something. */
const told = (search: DeviceSearch): DeviceSearch =>
  Object.fromEntries(DEVICE_SEARCH.flatMap((key) => (search[key] === undefined || search[key] === '' ? [] : [[key, search[key]]])))

/** The filters of last time, for an address without any. `owner` is asked for, not kept. */
const ofLastTime = (): DeviceSearch => told({ ...preferences().device_view_state, owner: '' })

/** The filters are in the address, so that it can be shared and gone back to; those of last time are kept. */
function useSearch(): [DeviceSearch, (members: DeviceSearch) => void] {
  const search = devicesRoute.useSearch()
  const navigate = devicesRoute.useNavigate()
  const bare = Object.keys(search).length === 0
  useEffect(() => {
    const last = ofLastTime()
    if (bare && Object.keys(last).length > 0) void navigate({ search: last, replace: true })
  }, [bare, navigate])
  const update = (members: DeviceSearch) => {
    const next = told({ ...search, ...members })
    const { search: text = '', presence = '', device_class = '', claimed = '', scope = '', sort = '' } = next
    change('device_view_state', { search: text, presence, device_class, claimed, scope, sort })
    void navigate({ search: next, replace: true })
  }
  return [search, update]
}

/** Room below the list, for its number of rows. */
const BELOW = 58

/** Where the list begins on the page: filters take a row or three. */
function useTop(ref: { current: HTMLElement | null }, there: boolean): number {
  const [top, setTop] = useState(246)
  useEffect(() => {
    const watch = new ResizeObserver(() => {
      const box = ref.current?.getBoundingClientRect()
      if (box !== undefined) setTop(Math.round(box.top + window.scrollY))
    })
    watch.observe(document.body)
    if (ref.current?.parentElement != null) watch.observe(ref.current.parentElement)
    return () => watch.disconnect()
  }, [ref, there])
  return top
}

/** The fleet: paged by the server, drawn as far as it is seen. */
export function Devices(): ReactNode {
  const admin = useAdmin()
  const [search, update] = useSearch()
  const dense = usePreferences().dashboard_settings.density === 'compact'
  const [claiming, claim] = useDisclosure()
  const client = useQueryClient()
  const query = asQuery(search, admin)
  const { rows, more, pending, error, retry, look } = usePages({
    key: ['devices', query],
    page: (cursor, signal) => devicePage(query, cursor, signal),
    id: uidOf,
  })

  const asked = JSON.stringify(query)
  const scroller = useRef<HTMLDivElement>(null)
  const top = useTop(scroller, rows.length > 0)
  const height = dense ? 36 : 56
  // eslint-disable-next-line react-hooks/incompatible-library -- its functions are used in this component only
  const virtual = useVirtualizer({
    count: rows.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => height,
    overscan: 10,
    initialOffset: () => offsets.get(asked) ?? 0,
  })
  const seen = virtual.getVirtualItems()
  const [first, last] = [seen[0]?.index ?? 0, seen.at(-1)?.index ?? 0]
  useEffect(() => virtual.measure(), [height, virtual])
  useEffect(() => look(first, last), [look, first, last])
  const before = useRef(asked)
  useEffect(() => {
    if (before.current !== asked) virtual.scrollToOffset(0)
    before.current = asked
  }, [asked, virtual])

  useWatch(useMemo(() => rows.slice(first, last + 1).map(uidOf), [rows, first, last]))
  useStructure(() => void client.invalidateQueries({ queryKey: ['devices'] }, { cancelRefetch: false }))

  return (
    <>
      <PageTitle title="Devices">
        <Button leftSection={<IconPlus size={16} aria-hidden />} onClick={claim.open}>
          Claim a device
        </Button>
      </PageTitle>
      <Filters query={query} admin={admin} update={update} />
      {error !== null && <Problem thrown={error} retry={retry} title="The devices cannot be shown" />}
      {pending && rows.length === 0 && error === null && <Waiting rows={8} />}
      {!pending && rows.length === 0 && !more && (
        <Paper withBorder>
          {isFiltered(query) ? (
            <Empty title="No device matches">
              No device has all of these words and properties.{' '}
              <Button variant="default" size="compact-sm" onClick={() => update({ search: '', presence: '', device_class: '', claimed: '', owner: '' })}>
                Show all
              </Button>
            </Empty>
          ) : (
            <Empty title="No devices yet">
              A device comes in with the fleet&apos;s provisioning key and shows a claim code, on its label or its screen. Enter the code
              under “Claim a device” to make it yours. Without hardware: <code>hexa sim --devices 3</code> makes devices to try.
            </Empty>
          )}
        </Paper>
      )}
      {rows.length > 0 && (
        <Paper withBorder>
          <VisuallyHidden role="status">
            {counted(rows.length, 'device')}{more ? ' so far' : ''}
          </VisuallyHidden>
          <div role="table" aria-label="Devices" aria-rowcount={more ? -1 : rows.length + 1} aria-busy={pending}>
            <div role="rowgroup">
              <Head owners={query.all} byName={query.sort === 'name'} sort={(byName) => update({ sort: byName ? 'name' : '' })} />
            </div>
            <Box ref={scroller} onScroll={(e) => offsets.set(asked, e.currentTarget.scrollTop)} h={`calc(100dvh - ${top + BELOW}px)`} mih={240} style={{ overflowY: 'auto', contain: 'strict' }} tabIndex={0} role="rowgroup" aria-label="Rows">
              <Box h={virtual.getTotalSize()} pos="relative" role="presentation">
                {seen.map((item) => {
                  const device = rows[item.index]
                  return (
                    device !== undefined && (
                      <Box key={device.uid} role="presentation" pos="absolute" top={0} left={0} right={0} h={item.size} style={{ transform: `translateY(${item.start}px)` }}>
                        <Row device={device} dense={dense} owners={query.all} index={item.index} />
                      </Box>
                    )
                  )
                })}
              </Box>
            </Box>
          </div>
          <Text size="xs" c="dimmed" px="sm" py={4} className="hx-number">
            {counted(rows.length, 'device')}{more ? ' and more: scroll to load them' : ''}
          </Text>
        </Paper>
      )}
      {claiming && (
        <Claim opened close={claim.close} />
      )}
    </>
  )
}
