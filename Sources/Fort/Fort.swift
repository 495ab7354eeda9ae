// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import Glibc
import LightProc
import Supervision

/// The life of a program behind the boundary.
enum Fort {
    static func run<Program: FortProgram>(_ type: Program.Type) -> Never {
        // Before any thread is made: they all inherit it, and only the signal thread takes these signals.
        OSSignals.block()
        let program = Program()
        let system: BastionSystem
        switch BastionSystem.sharedResult {
        case .success(let shared): system = shared
        case .failure(let error): fail("cannot start the worker pool: \(error)", .operatingSystem)
        }
        let ending = Ending()
        do {
            let bodies = Children(
                "main",
                redundancy: Program.redundancy,
                restart: .transient,
                backoff: Program.backoff,
                shutdownTime: Program.shutdownTime
            ) { context in
                try await program.run(in: context)
            }
            let tree = try system.supervise(
                "fort",
                intensity: Program.intensity,
                finishesWhenEmpty: true,
                onGivingUp: { _ in },
                [bodies]
            )
            OSSignals.listen { signal in
                guard ending.begin() else { _exit(ExitCode.forced(by: signal).rawValue) }
                system.log.info("stopping", metadata: ["signal": "\(signal)"])
                tree.stop {}
            }
            tree.whenFinished { ending.finish(tree.gaveUp ? .software : .success) }
        } catch {
            fail("cannot start: \(error)", .usage)
        }
        let code = ending.blockingWait()
        // What was started beside the program, on the shared system, is stopped too.
        let stopped = Ending()
        Task.detached {
            await system.stop()
            stopped.finish(code)
        }
        exit(stopped.blockingWait().rawValue)
    }

    private static func fail(_ message: String, _ code: ExitCode) -> Never {
        let line = "\(CommandLine.arguments.first ?? "program"): \(message)\n"
        _ = line.withCString { write(STDERR_FILENO, $0, strlen($0)) }
        exit(code.rawValue)
    }
}

/// The end of a program: begun at most once, finished once.
private final class Ending: Sendable {
    private struct State {
        var hasBegun = false
        var code: ExitCode?
    }
    private let state = Locked(State())
    private let gate = BlockingGate()

    /// False if it had begun before.
    func begin() -> Bool {
        state.withLock { state in
            defer { state.hasBegun = true }
            return !state.hasBegun
        }
    }

    func finish(_ code: ExitCode) {
        state.withLock { $0.code = $0.code ?? code }
        gate.open()
    }

    func blockingWait() -> ExitCode {
        gate.blockingWait()
        return state.withLock { $0.code } ?? .success
    }
}
