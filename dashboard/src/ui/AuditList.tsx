import { ActionIcon, Badge, Box, Button, Code, Group, Text } from '@mantine/core'
import { IconChevronDown, IconChevronRight } from '@tabler/icons-react'
import { Link } from '@tanstack/react-router'
import { Fragment, type ReactNode, useState } from 'react'
import type { AuditRow, HistoryRow } from '../api/client'
import { AUDIT_WORDS } from './auditWords'
import { EmptyState } from './EmptyState'
import { RelativeTime } from './RelativeTime'

const SUCCESSFUL = new Set(['executed', 'noop', 'done', 'healed', 'late_ack'])
const UNCERTAIN = new Set(['timeout', 'mismatch'])

/** What a row records, in words; `names` are those of the device's relays. */
export function describeRow(row: AuditRow | HistoryRow, names?: ReadonlyMap<number, string>): string {
  const nameOf = (index: number) => names?.get(index) ?? `relay ${index}`
  const relay = row.relay === null ? 'all relays' : nameOf(row.relay)
  if (row.action === 'set_relay' || row.action === 'set_all_relays')
    return `${row.state === true ? 'switch on' : 'switch off'} ${relay}`
  const action = AUDIT_WORDS.get(row.action) ?? row.action
  if (row.changes.length === 0) return action
  return `${action}: ${row.changes.map((c) => `${nameOf(c.index)} ${c.state ? 'on' : 'off'}`).join(', ')}`
}

/** The account, and the source of the request where it adds something. */
function describeActor(row: AuditRow | HistoryRow): string {
  const name = row.actor.email ?? row.actor.kind
  return name === row.source ? name : `${name} via ${row.source}`
}

interface LoadOlderProps {
  query: { hasNextPage: boolean; isFetchingNextPage: boolean; fetchNextPage: () => unknown }
  /** Whether older rows are shown, so that new rows do not appear. */
  paused: boolean
  showNewest: () => void
}

/** Buttons to load older rows, and to go back to the newest. */
export function LoadOlder({ query, paused, showNewest }: LoadOlderProps): ReactNode {
  if (!query.hasNextPage && !paused) return null
  return (
    <Group justify="center" p="sm" gap="xs">
      {query.hasNextPage && (
        <Button variant="default" size="xs" loading={query.isFetchingNextPage} onClick={() => void query.fetchNextPage()}>
          Load older
        </Button>
      )}
      {paused && (
        <Button variant="default" size="xs" onClick={showNewest}>
          Back to newest
        </Button>
      )}
    </Group>
  )
}

/** Identifies a row: each chain has numbers of its own. */
function rowKey(row: AuditRow): string {
  return `${row.chain} ${row.seq}`
}

/** All fields of a row. */
function AuditDetails({ row }: { row: AuditRow }): ReactNode {
  const fields: [string, string | null][] = [
    ['Number', `${row.seq} of chain ${row.chain}`],
    ['Time', row.at],
    ['Account', row.actor.id === null ? row.actor.kind : `${row.actor.email ?? ''} ${row.actor.id}`],
    ['Source', row.source],
    ['Action', row.action],
    ['Device', row.device_uid],
    ['Command', row.command_id],
    ['Follow-up', row.follow_up ? 'yes: received after the command had ended' : null],
  ]
  return (
    <Box component="dl" m={0} pb="xs" fz="xs" className="hx-facts" data-details={rowKey(row)}>
      {fields.map(
        ([name, value]) =>
          value !== null && (
            <Fragment key={name}>
              <dt>{name}</dt>
              <dd>{value}</dd>
            </Fragment>
          ),
      )}
      {row.details != null && (
        <>
          <dt>Details</dt>
          <dd>
            <Code>{JSON.stringify(row.details)}</Code>
          </dd>
        </>
      )}
    </Box>
  )
}

interface AuditListProps {
  rows: readonly (AuditRow | HistoryRow)[]
  names?: ReadonlyMap<number, string>
  /** Whether rows can be expanded to all their fields. */
  expandable?: boolean
  /** Whether a filter is on. */
  filtered?: boolean
}

/** Rows of the audit log or of a device's history. */
export function AuditList({ rows, names, expandable, filtered }: AuditListProps): ReactNode {
  const [open, setOpen] = useState<string | null>(null)
  if (rows.length === 0 && filtered === true) return <EmptyState title="No matching events">No event matches all filters.</EmptyState>
  if (rows.length === 0) return <EmptyState title="No events yet">Every command and every change of accounts and devices is recorded here.</EmptyState>
  return (
    <Box role="list">
      {rows.map((row, n) => (
        <Box key={'seq' in row ? rowKey(row) : `${row.at} ${n}`} role="listitem" className="hx-line">
          <Group justify="space-between" wrap="nowrap" gap="sm" py={6}>
            <Box miw={0} flex={1}>
              <Text size="sm" style={{ overflowWrap: 'anywhere' }}>
                {describeRow(row, names)}
                {'device_uid' in row && row.device_uid != null && (
                  <>
                    {' · '}
                    <Link to="/devices/$uid" params={{ uid: row.device_uid }}>
                      {row.device_name ?? row.device_uid}
                    </Link>
                  </>
                )}
              </Text>
              <Text size="xs" c="dimmed" style={{ overflowWrap: 'anywhere' }}>
                {describeActor(row)}
                {row.latency_ms == null ? '' : ` · ${row.latency_ms} ms`}
              </Text>
            </Box>
            <Group gap="xs" wrap="nowrap" className="hx-end">
              <Badge
                variant="light"
                color={SUCCESSFUL.has(row.outcome) ? 'teal' : UNCERTAIN.has(row.outcome) ? 'yellow' : 'red'}
                className={`hx-badge ${SUCCESSFUL.has(row.outcome) ? 'hx-online' : UNCERTAIN.has(row.outcome) ? 'hx-stale' : ''}`}
              >
                {row.outcome}
              </Badge>
              <Box className="hx-when">
                <RelativeTime at={row.at} />
              </Box>
              {expandable === true && 'seq' in row && (
                <ActionIcon
                  variant="subtle"
                  color="gray"
                  aria-expanded={open === rowKey(row)}
                  aria-label={`${open === rowKey(row) ? 'Collapse' : 'Expand'} row ${row.seq}`}
                  onClick={() => setOpen(open === rowKey(row) ? null : rowKey(row))}
                >
                  {open === rowKey(row) ? <IconChevronDown size={16} aria-hidden /> : <IconChevronRight size={16} aria-hidden />}
                </ActionIcon>
              )}
            </Group>
          </Group>
          {'seq' in row && open === rowKey(row) && <AuditDetails row={row} />}
        </Box>
      ))}
    </Box>
  )
}
