import { Button, Menu, Paper, Switch } from '@mantine/core'
import { IconDownload } from '@tabler/icons-react'
import { useMutation } from '@tanstack/react-query'
import { getRouteApi } from '@tanstack/react-router'
import { type ReactNode, useRef, useState } from 'react'
import { fetchText } from '../../api/client'
import { useTimeline } from '../../state/useTimeline'
import { AuditList, LoadOlder } from '../../ui/AuditList'
import { ErrorAlert, notifySuccess } from '../../ui/ErrorAlert'
import { LoadingRows } from '../../ui/LoadingRows'
import { PageTitle } from '../../ui/PageTitle'
import { AuditFilters } from './AuditFilters'
import { auditPages, auditParameters, type AuditQuery } from './queries'

const route = getRouteApi('/audit')

const REFRESH_MS = 3_000

async function download(query: AuditQuery, format: 'csv' | 'jsonl', progress: (bytes: number) => void, signal: AbortSignal): Promise<void> {
  const parameters = new URLSearchParams({ format, ...(auditParameters(query) as Record<string, string>) })
  const response = await fetchText(`/api/v1/admin/audit/export?${parameters.toString()}`, signal)
  const parts: Uint8Array<ArrayBuffer>[] = []
  let bytes = 0
  const reader = response.body?.getReader()
  if (reader === undefined) return
  for (;;) {
    const { done, value } = await reader.read()
    if (done) break
    parts.push(value)
    bytes += value.length
    progress(bytes)
  }
  const name = /filename="([^"]+)"/.exec(response.headers.get('content-disposition') ?? '')?.[1] ?? `hexa-audit.${format}`
  const url = URL.createObjectURL(new Blob(parts, { type: response.headers.get('content-type') ?? '' }))
  const link = Object.assign(document.createElement('a'), { href: url, download: name })
  link.click()
  setTimeout(() => URL.revokeObjectURL(url), 10_000)
}

/** The audit log: who did what, from where, and with which outcome. */
export function AuditPage(): ReactNode {
  const search = route.useSearch()
  const navigate = route.useNavigate()
  const [live, setLive] = useState(true)
  const [bytes, setBytes] = useState(0)
  const query: AuditQuery = {
    actor: search.actor ?? '',
    device: search.device ?? '',
    action: search.action ?? '',
    outcome: search.outcome ?? '',
    source: search.source ?? '',
    since: search.since ?? '',
    until: search.until ?? '',
  }
  const update = (members: Partial<AuditQuery>) => {
    const next = Object.fromEntries(Object.entries({ ...query, ...members }).filter(([, value]) => value !== ''))
    void navigate({ search: next, replace: true })
  }
  const { rows, paused, showNewest, query: result } = useTimeline(auditPages(query), live ? REFRESH_MS : false)
  const stop = useRef<AbortController | null>(null)
  const cancel = () => {
    stop.current?.abort()
    exporting.reset()
  }
  const exporting = useMutation({
    mutationFn: (format: 'csv' | 'jsonl') => {
      stop.current = new AbortController()
      return download(query, format, setBytes, stop.current.signal)
    },
    onMutate: () => setBytes(0),
    onSuccess: () => notifySuccess('Export complete'),
  })
  return (
    <>
      <PageTitle title="Audit">
        <Switch label="Live" checked={live} onChange={(e) => setLive(e.currentTarget.checked)} />
        {exporting.isPending && (
          <Button variant="subtle" onClick={cancel}>
            Cancel export
          </Button>
        )}
        <Menu position="bottom-end">
          <Menu.Target>
            <Button variant="default" aria-busy={exporting.isPending} leftSection={<IconDownload size={16} aria-hidden />} disabled={exporting.isPending}>
              {exporting.isPending ? `Exporting, ${Math.round(bytes / 1024)} KB` : 'Export'}
            </Button>
          </Menu.Target>
          <Menu.Dropdown>
            <Menu.Label>All rows that match the filters</Menu.Label>
            <Menu.Item onClick={() => exporting.mutate('csv')}>CSV for spreadsheets</Menu.Item>
            <Menu.Item onClick={() => exporting.mutate('jsonl')}>JSON lines</Menu.Item>
          </Menu.Dropdown>
        </Menu>
      </PageTitle>
      <AuditFilters query={query} update={update} />
      {exporting.isError && <ErrorAlert thrown={exporting.error} title="The export failed" />}
      {result.isPending && <LoadingRows rows={8} />}
      {result.isError && <ErrorAlert thrown={result.error} retry={() => void result.refetch()} title="The audit log cannot be shown" />}
      {!result.isPending && !(result.isError && rows.length === 0) && (
        <Paper withBorder px="md" py="xs">
          <AuditList rows={rows} expandable filtered={Object.values(query).some((value) => value !== '')} />
          <LoadOlder query={result} paused={paused} showNewest={showNewest} />
        </Paper>
      )}
    </>
  )
}
