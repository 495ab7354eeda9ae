// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import Glibc
import LightProc
import Supervision

/// The boundary of the program: what is known of the program as a whole, and what it gets from there.
public enum Fort {
    /// Runs a program that `make` makes, and ends the OS process: for programs that are made from their arguments.
    ///
    /// ```swift
    /// static func main() { Fort.run { parseOrExit() } }
    /// ```
    /// `make` is called once, on the main thread, when `--bastion-help` has been answered and the options have been found to be right, before anything
    /// else is there. Also in the guard's process, where there is to be one: so that wrong arguments are told once, and end all. It should look at the
    /// arguments and start nothing. What it throws ends the program with a line and ``ExitCode/usage``.
    public static func run<Program: FortProgram>(_ make: () throws -> Program) -> Never {
        run(Program.self, isMadeFirst: true, make: make)
    }

    /// - Parameter isMadeFirst: Whether it is made before there is a guard; else it is made in the guard's child only.
    static func run<Program: FortProgram>(
        _ type: Program.Type,
        isMadeFirst: Bool = false,
        make: () throws -> Program
    ) -> Never {
        let options = FortOptions.readOrExit(of: type)
        Reporter.runIfAsked()
        let early = isMadeFirst ? makeOrExit(make) : nil
        // Does not return in the guard.
        let link = Guard.enter(options)
        // Before any thread is made: they all inherit it, and only the signal thread takes these signals.
        OSSignals.block()
        OSSignals.ignoreBrokenPipes()
        link?.watchGuard()
        let state = ProgramState(link: link, options)
        // Before code of the user's can make the shared system.
        let reports = CrashReporting.startOrExit(options, state)
        let program = early ?? makeOrExit(make)
        let system: BastionSystem
        switch BastionSystem.shared(workers: options.workers, logLevel: options.logLevel) {
        case .success(let shared): system = shared
        case .failure(let error): fail("cannot start the worker pool: \(error)", .operatingSystem)
        }
        if options.adoptsGlobalExecutor {
            do { try (system.executor as? WorkerPool)?.installAsGlobalExecutor() } catch {
                fail("cannot adopt the global executor: \(error)", .operatingSystem)
            }
        }
        reports.watch(system)
        let life = ProgramLife(system, state, options)
        // Before the bodies: they may stop the program as soon as they run.
        LeakWatch.start(system, state, options) { life.stop(.temporary) }
        HostWatch.start(system, state, options)
        do { try life.start(program) } catch { fail("cannot start: \(error)", .usage) }
        guard MainThread.isCurrent else { exit(life.blockingWait().rawValue) }
        // Whatever is isolated to the main actor runs here meanwhile.
        _ = PlainThread(name: "bastion-main") { exit(life.blockingWait().rawValue) }
        MainThread.serve()
    }

    private static func makeOrExit<Program: FortProgram>(_ make: () throws -> Program) -> Program {
        do { return try make() } catch { fail("cannot start: \(error)", .usage) }
    }

    /// Ends the program with one line.
    static func fail(_ message: String, _ code: ExitCode) -> Never {
        tell("\(programName): \(message)")
        exit(code.rawValue)
    }

    /// Writes a line to standard error, at once.
    static func tell(_ line: String) { StandardStream.error.write(line + "\n") }

    /// What the program was called as.
    static var programName: String { CommandLine.arguments.first ?? "program" }
}
