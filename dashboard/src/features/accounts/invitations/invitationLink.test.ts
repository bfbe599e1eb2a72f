import { act, renderHook } from '@testing-library/react'
import { expect, test } from 'vitest'
import { spent, take, tokenOf, useInvitation } from './invitationLink'

test('a link is taken out of the address, whatever else is in it', () => {
  const { result } = renderHook(useInvitation)
  expect(result.current).toBeNull()
  window.history.replaceState(null, '', '/hexa/dashboard/home?a=1#invitation=hxi_one')
  act(take)
  expect(result.current).toBe('hxi_one')
  expect(window.location.href).toMatch(/\/hexa\/dashboard\/home\?a=1$/)
  // Another link while the page is open.
  act(() => {
    window.history.replaceState(null, '', '#invitation=hxi_two')
    window.dispatchEvent(new HashChangeEvent('hashchange'))
  })
  expect(result.current).toBe('hxi_two')
  // Anchors of the page are none.
  act(() => {
    window.history.replaceState(null, '', '#main')
    window.dispatchEvent(new HashChangeEvent('hashchange'))
  })
  expect(result.current).toBe('hxi_two')
  expect(window.location.hash).toBe('#main')
  act(spent)
  expect(result.current).toBeNull()
})

test('a whole link may be pasted, or what is behind its sign', () => {
  for (const pasted of ['hxi_a-B_1', ' hxi_a-B_1\n', 'https://h.example/hexa/dashboard#invitation=hxi_a-B_1', '#invitation=hxi_a-B_1', 'invitation=hxi_a-B_1'])
    expect(tokenOf(pasted)).toBe('hxi_a-B_1')
  expect(tokenOf('')).toBe('')
})
