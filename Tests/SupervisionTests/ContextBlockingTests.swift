// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc
import Supervision
import Testing

/// Blocking work of supervised children.
@Suite struct ContextBlockingTests {
    private struct Work: Sendable {
        let index: Int
        let reply: Reply<Int>
    }

    /// Whoever asked learns of the trap; the child is started again and answers the next.
    @Test func aTrapOnABlockingThreadIsTheChilds() async throws {
        try await withPool { system in
            let tree = try system.supervise(intensity: .unlimited) {
                Children("reader") { context in
                    for await work in context.messages(of: Work.self) {
                        work.reply(try await context.blocking { opaque([1])[work.index] })
                    }
                }
                Children("bystander") { context in
                    for await work in context.messages(of: Work.self) { work.reply(work.index) }
                }
            }
            let reader = try tree.group("reader", of: Work.self).members[0]
            let bystander = try tree.group("bystander", of: Work.self).members[0]
            for round in 1...5 {
                await #expect { _ = try await reader.ask(within: .seconds(60)) { Work(index: 9, reply: $0) } } throws: {
                    guard let error = $0 as? AskError, case .trap(let report)? = error.reason else { return false }
                    return report.process == reader.id && report.name == "reader-0"
                }
                #expect(try await reader.ask(within: .seconds(60)) { Work(index: 0, reply: $0) } == 1)
                #expect(reader.proc.restarts == round)
            }
            #expect(try await bystander.ask(within: .seconds(60)) { Work(index: 7, reply: $0) } == 7)
            #expect(bystander.proc.restarts == 0)
        }
    }

    /// In a task that is no part of the child a trap is thrown, and the child goes on.
    /// That task waits behind all other tests of the program for one of Swift's own threads.
    @Test func aTaskOfNoProcessIsToldOfATrap() async throws {
        try await withPool { system in
            let tree = try system.supervise {
                Children("child") { context in
                    for await work in context.messages(of: Work.self) {
                        let failed = await Task {
                            do {
                                return try await context.blocking { opaque([1])[work.index] }
                            } catch let failure as ProcFailure {
                                return failure.reason.trapReport == nil ? -1 : -2
                            } catch {
                                return -3
                            }
                        }.value
                        work.reply(failed)
                    }
                }
            }
            let child = try tree.group("child", of: Work.self).members[0]
            #expect(try await child.ask(within: .seconds(600)) { Work(index: 9, reply: $0) } == -2)
            #expect(try await child.ask(within: .seconds(600)) { Work(index: 0, reply: $0) } == 1)
            #expect(child.proc.restarts == 0)
        }
    }
}
