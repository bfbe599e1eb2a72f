import { ActionIcon, AppShell, Badge, Burger, Button, Group, Menu, NavLink, Text, Tooltip, UnstyledButton } from '@mantine/core'
import { useDisclosure, useHotkeys } from '@mantine/hooks'
import {
  IconChartLine, IconDeviceDesktopAnalytics, IconHistory, IconHome, IconLogout, IconPlugConnected, IconPuzzle, IconSearch, IconSettings, IconUserCircle, IconUserPlus, IconUsers,
} from '@tabler/icons-react'
import { Link, Outlet, useRouterState } from '@tanstack/react-router'
import { type ReactNode, useEffect, useSyncExternalStore } from 'react'
import { clock } from '../api/client'
import { PREFIX } from '../api/serverUrl'
import { session, signOut } from '../api/session'
import icon from '../icon.svg'
import { useLink } from '../state/live'
import { later } from './lazyComponent'

const Jump = later(() => import('./CommandPalette').then((m) => m.Jump))

const PAGES = [
  { to: '/home', label: 'Home', icon: IconHome, admin: false },
  { to: '/overview', label: 'Overview', icon: IconDeviceDesktopAnalytics, admin: true },
  { to: '/devices', label: 'Devices', icon: IconPlugConnected, admin: false },
  { to: '/users', label: 'Users', icon: IconUsers, admin: true },
  { to: '/invitations', label: 'Invitations', icon: IconUserPlus, admin: true },
  { to: '/audit', label: 'Audit', icon: IconHistory, admin: true },
  { to: '/plugins', label: 'Plugins', icon: IconPuzzle, admin: true },
  { to: '/metrics', label: 'Metrics', icon: IconChartLine, admin: true },
  { to: '/preferences', label: 'Preferences', icon: IconSettings, admin: false },
  { to: '/account', label: 'Account', icon: IconUserCircle, admin: false },
] as const

const LINKS = {
  live: { color: 'teal', text: 'Live', what: 'States come as they change' },
  connecting: { color: 'gray.5', text: 'Connecting', what: 'Live states begin in a moment' },
  waiting: { color: 'red', text: 'Not live', what: 'The server cannot be reached; trying again. What you see may be old.' },
  blocked: {
    color: 'red',
    text: 'Not live',
    what: 'The server answers, but no socket to it opens: a proxy in between may not pass WebSockets. What you see is read every half minute.',
  },
} as const

/** Whether what is seen is live; nothing where nothing on the page asked for live states. */
function LiveBadge(): ReactNode {
  const state = useLink()
  if (state === 'off') return null
  const link = LINKS[state]
  return (
    <Tooltip label={link.what}>
      <Badge variant="dot" color={link.color} tt="none" role="status" aria-label={`Connection: ${link.text}. ${link.what}`}>
        {link.text}
      </Badge>
    </Tooltip>
  )
}

/** The frame around every page. */
export function Shell(): ReactNode {
  const [opened, { toggle, close }] = useDisclosure()
  const [jumping, jump] = useDisclosure()
  // With a modifier, so that nobody's words are taken for it (WCAG 2.1.4); in fields as well.
  useHotkeys([['mod+K', jump.open]], [])
  const state = useSyncExternalStore(session.subscribe, session.state)
  const path = useRouterState({ select: (s) => s.location.pathname })
  useEffect(() => {
    close()
    document.getElementById('main')?.focus({ preventScroll: true })
    // eslint-disable-next-line react-hooks/exhaustive-deps -- at each new page
  }, [path])
  const user = state.status === 'in' ? state.user : null
  const admin = user?.role === 'admin'
  const pages = PAGES.filter((page) => admin || !page.admin)
  const passing = useSyncExternalStore(session.subscribe, session.passing)
  const skew = Math.round(useSyncExternalStore(clock.subscribe, clock.skewMs) / 60_000)
  return (
    <AppShell header={{ height: 56 }} navbar={{ width: 208, breakpoint: 'sm', collapsed: { mobile: !opened } }} padding="md">
      <AppShell.Header px="md">
        <a href="#main" className="hx-skip">
          Skip to content
        </a>
        <Group h="100%" justify="space-between" wrap="nowrap">
          <Group gap="sm" wrap="nowrap">
            <Burger opened={opened} onClick={toggle} hiddenFrom="sm" size="sm" aria-expanded={opened} aria-label={opened ? 'Close the menu' : 'Open the menu'} />
            <UnstyledButton component={Link} to="/" aria-label="Hexa, to the first page">
              <Group gap={8} wrap="nowrap">
                <img src={icon} alt="" width={26} height={26} />
                <Text fw={700}>Hexa</Text>
              </Group>
            </UnstyledButton>
          </Group>
          <Group gap="sm" wrap="nowrap">
            {Math.abs(skew) >= 2 && (
              <Tooltip label={`This device's clock is ${Math.abs(skew)} minutes ${skew > 0 ? 'behind' : 'ahead of'} the server's. Times are shown by the server's.`}>
                <Badge color="yellow" variant="light" className="hx-badge hx-stale" visibleFrom="xs">clock off</Badge>
              </Tooltip>
            )}
            {passing !== null && (
              <Tooltip label={passing} multiline maw={320}>
                <Badge color="yellow" variant="light" className="hx-badge hx-stale" tabIndex={0} aria-label={passing}>not kept</Badge>
              </Tooltip>
            )}
            <LiveBadge />
            <Tooltip label="Go to a page or a device (Ctrl K)">
              <ActionIcon variant="subtle" color="gray" aria-label="Go to a page or a device" onClick={jump.open}>
                <IconSearch size={18} aria-hidden />
              </ActionIcon>
            </Tooltip>
            <Menu position="bottom-end" withinPortal>
              <Menu.Target>
                <Button variant="subtle" color="gray" size="compact-md" leftSection={<IconUserCircle size={18} aria-hidden />} aria-label={`Your account: ${user?.name ?? user?.email ?? ''}`}>
                  <Text size="sm" truncate maw={160} visibleFrom="xs">
                    {user?.name ?? user?.email}
                  </Text>
                </Button>
              </Menu.Target>
              <Menu.Dropdown>
                <Menu.Label>
                  {user?.email} · {user?.role}
                </Menu.Label>
                {state.status === 'in' && state.base !== '' && <Menu.Label>at {state.base}</Menu.Label>}
                <Menu.Item component={Link} to="/account" leftSection={<IconUserCircle size={16} aria-hidden />}>
                  Account, sessions, tokens
                </Menu.Item>
                <Menu.Item leftSection={<IconLogout size={16} aria-hidden />} onClick={() => void signOut()}>
                  Sign out
                </Menu.Item>
              </Menu.Dropdown>
            </Menu>
          </Group>
        </Group>
      </AppShell.Header>
      <AppShell.Navbar p="xs" aria-label="Pages" className={opened ? '' : 'hx-shut'} onKeyDown={(e) => e.key === 'Escape' && close()}>
        {pages.map((page) => (
          <NavLink
            key={page.to}
            component={Link}
            to={page.to}
            label={page.label}
            leftSection={<page.icon size={18} aria-hidden />}
            active={path.startsWith(`${PREFIX}/dashboard${page.to}`) || path.startsWith(page.to)}
            variant="light"
            color="hexa"
          />
        ))}
      </AppShell.Navbar>
      <AppShell.Main id="main" tabIndex={-1} style={{ outline: 'none' }}>
        <Outlet />
        {jumping && (
          <Jump close={jump.close} pages={pages} admin={admin} />
        )}
      </AppShell.Main>
    </AppShell>
  )
}
