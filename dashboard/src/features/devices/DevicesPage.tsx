import { Box, Button, Paper, Text, VisuallyHidden } from '@mantine/core'
import { useDisclosure } from '@mantine/hooks'
import { IconPlus } from '@tabler/icons-react'
import { useQueryClient } from '@tanstack/react-query'
import { getRouteApi } from '@tanstack/react-router'
import { useVirtualizer } from '@tanstack/react-virtual'
import { type ReactNode, useEffect, useMemo, useRef, useState } from 'react'
import type { Device } from '../../api/client'
import { useDeviceListChanges, useLiveUpdates } from '../../state/live'
import { changePreferences, preferences, usePreferences } from '../../state/preferences'
import { onSessionReset } from '../../state/resetSession'
import { useKeysetPages } from '../../state/useKeysetPages'
import { useAdmin } from '../../state/useSession'
import { EmptyState } from '../../ui/EmptyState'
import { ErrorAlert } from '../../ui/ErrorAlert'
import { lazyComponent } from '../../ui/lazyComponent'
import { LoadingRows } from '../../ui/LoadingRows'
import { PageTitle } from '../../ui/PageTitle'
import { pluralize } from '../../ui/pluralize'
import { DeviceFilters } from './DeviceFilters'
import { DeviceHeader, DeviceRow } from './DeviceRow'
import { type DeviceSearch, isFiltered, toDeviceQuery, withoutUnset } from './deviceSearch'
import { fetchDevicePage } from './queries'

const Claim = lazyComponent(() => import('./ClaimDevice').then((m) => m.ClaimDevice))

const route = getRouteApi('/devices')

/** Scroll positions of lists that were left, by their queries. */
const offsets = new Map<string, number>()
onSessionReset(() => offsets.clear())

const uidOf = (device: Device) => device.uid

/** The filters that were used last, for an address without any; `owner` is never saved. */
const savedSearch = (): DeviceSearch => withoutUnset({ ...preferences().device_view_state, owner: '' })

/** The filters, which are in the address so that it can be shared; the last ones are saved as preferences. */
function useSearch(): [DeviceSearch, (members: DeviceSearch) => void] {
  const search = route.useSearch()
  const navigate = route.useNavigate()
  const isBare = Object.keys(search).length === 0
  useEffect(() => {
    const saved = savedSearch()
    if (isBare && Object.keys(saved).length > 0) void navigate({ search: saved, replace: true })
  }, [isBare, navigate])
  const update = (members: DeviceSearch) => {
    const next = withoutUnset({ ...search, ...members })
    const { search: text = '', presence = '', device_class = '', claimed = '', scope = '', sort = '' } = next
    changePreferences('device_view_state', { search: text, presence, device_class, claimed, scope, sort })
    void navigate({ search: next, replace: true })
  }
  return [search, update]
}

/** The height of the line below the list, in pixels. */
const FOOTER_PX = 58

/** The distance of the list from the top of the page, which depends on the height of the filters. */
function useTop(ref: { current: HTMLElement | null }, mounted: boolean): number {
  const [top, setTop] = useState(246)
  useEffect(() => {
    const observer = new ResizeObserver(() => {
      const box = ref.current?.getBoundingClientRect()
      if (box !== undefined) setTop(Math.round(box.top + window.scrollY))
    })
    observer.observe(document.body)
    if (ref.current?.parentElement != null) observer.observe(ref.current.parentElement)
    return () => observer.disconnect()
  }, [ref, mounted])
  return top
}

/** The device list: paged by the server, rendered as far as it is visible. */
export function DevicesPage(): ReactNode {
  const admin = useAdmin()
  const [search, update] = useSearch()
  const dense = usePreferences().dashboard_settings.density === 'compact'
  const [claiming, claim] = useDisclosure()
  const client = useQueryClient()
  const query = toDeviceQuery(search, admin)
  const { rows, more, pending, error, retry, setVisibleRange } = useKeysetPages({
    key: ['devices', query],
    page: (cursor, signal) => fetchDevicePage(query, cursor, signal),
    id: uidOf,
  })

  const listKey = JSON.stringify(query)
  const scroller = useRef<HTMLDivElement>(null)
  const top = useTop(scroller, rows.length > 0)
  const height = dense ? 36 : 56
  // eslint-disable-next-line react-hooks/incompatible-library -- its functions are used in this component only
  const virtual = useVirtualizer({
    count: rows.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => height,
    overscan: 10,
    initialOffset: () => offsets.get(listKey) ?? 0,
  })
  const visible = virtual.getVirtualItems()
  const [first, last] = [visible[0]?.index ?? 0, visible.at(-1)?.index ?? 0]
  useEffect(() => virtual.measure(), [height, virtual])
  useEffect(() => setVisibleRange(first, last), [setVisibleRange, first, last])
  const previous = useRef(listKey)
  useEffect(() => {
    if (previous.current !== listKey) virtual.scrollToOffset(0)
    previous.current = listKey
  }, [listKey, virtual])

  useLiveUpdates(useMemo(() => rows.slice(first, last + 1).map(uidOf), [rows, first, last]))
  useDeviceListChanges(() => void client.invalidateQueries({ queryKey: ['devices'] }, { cancelRefetch: false }))

  return (
    <>
      <PageTitle title="Devices">
        <Button leftSection={<IconPlus size={16} aria-hidden />} onClick={claim.open}>
          Claim a device
        </Button>
      </PageTitle>
      <DeviceFilters query={query} admin={admin} update={update} />
      {error !== null && <ErrorAlert thrown={error} retry={retry} title="The devices cannot be shown" />}
      {pending && rows.length === 0 && error === null && <LoadingRows rows={8} />}
      {!pending && rows.length === 0 && !more && (
        <Paper withBorder>
          {isFiltered(query) ? (
            <EmptyState title="No matching devices">
              No device matches all filters.{' '}
              <Button variant="default" size="compact-sm" onClick={() => update({ search: '', presence: '', device_class: '', claimed: '', owner: '' })}>
                Clear filters
              </Button>
            </EmptyState>
          ) : (
            <EmptyState title="No devices yet">
              A device registers with the provisioning key of this server, and has a claim code on its label or screen. Enter the code under
              “Claim a device” to make it yours. To try it without hardware, run <code>hexa sim --devices 3</code>.
            </EmptyState>
          )}
        </Paper>
      )}
      {rows.length > 0 && (
        <Paper withBorder>
          <VisuallyHidden role="status">
            {pluralize(rows.length, 'device')}{more ? ' so far' : ''}
          </VisuallyHidden>
          <div role="table" aria-label="Devices" aria-rowcount={more ? -1 : rows.length + 1} aria-busy={pending}>
            <div role="rowgroup">
              <DeviceHeader owners={query.all} byName={query.sort === 'name'} sort={(byName) => update({ sort: byName ? 'name' : '' })} />
            </div>
            <Box ref={scroller} onScroll={(e) => offsets.set(listKey, e.currentTarget.scrollTop)} h={`calc(100dvh - ${top + FOOTER_PX}px)`} mih={240} style={{ overflowY: 'auto', contain: 'strict' }} tabIndex={0} role="rowgroup" aria-label="Rows">
              <Box h={virtual.getTotalSize()} pos="relative" role="presentation">
                {visible.map((item) => {
                  const device = rows[item.index]
                  return (
                    device !== undefined && (
                      <Box key={device.uid} role="presentation" pos="absolute" top={0} left={0} right={0} h={item.size} style={{ transform: `translateY(${item.start}px)` }}>
                        <DeviceRow device={device} dense={dense} owners={query.all} index={item.index} />
                      </Box>
                    )
                  )
                })}
              </Box>
            </Box>
          </div>
          <Text size="xs" c="dimmed" px="sm" py={4} className="hx-number">
            {pluralize(rows.length, 'device')}{more ? ' and more: scroll to load them' : ''}
          </Text>
        </Paper>
      )}
      {claiming && (
        <Claim opened close={claim.close} />
      )}
    </>
  )
}
