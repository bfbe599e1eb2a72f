import { act, renderHook } from '@testing-library/react'
import { expect, test } from 'vitest'
import { clearInvitation, invitationToken, takeFromAddress, useInvitation } from './invitationLink'

test('the token is removed from the address, which is otherwise unchanged', () => {
  const { result } = renderHook(useInvitation)
  expect(result.current).toBeNull()
  window.history.replaceState(null, '', '/hexa/dashboard/home?a=1#invitation=hxi_one')
  act(takeFromAddress)
  expect(result.current).toBe('hxi_one')
  expect(window.location.href).toMatch(/\/hexa\/dashboard\/home\?a=1$/)
  // Another link is opened in the same page.
  act(() => {
    window.history.replaceState(null, '', '#invitation=hxi_two')
    window.dispatchEvent(new HashChangeEvent('hashchange'))
  })
  expect(result.current).toBe('hxi_two')
  // Other anchors are no invitation.
  act(() => {
    window.history.replaceState(null, '', '#main')
    window.dispatchEvent(new HashChangeEvent('hashchange'))
  })
  expect(result.current).toBe('hxi_two')
  expect(window.location.hash).toBe('#main')
  act(clearInvitation)
  expect(result.current).toBeNull()
})

test('a whole link may be pasted, or a part with the token', () => {
  for (const pasted of ['hxi_a-B_1', ' hxi_a-B_1\n', 'https://h.example/hexa/dashboard#invitation=hxi_a-B_1', '#invitation=hxi_a-B_1', 'invitation=hxi_a-B_1'])
    expect(invitationToken(pasted)).toBe('hxi_a-B_1')
  expect(invitationToken('')).toBe('')
})
