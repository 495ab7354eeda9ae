// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CFort
import Executor
import Glibc
import LightProc

/// The signals that a program behind the boundary reacts to, taken by a thread that waits for nothing else.
enum OSSignals {
    private static let numbers = [SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR2]

    private static var taken: sigset_t {
        var set = sigset_t()
        sigemptyset(&set)
        for signal in numbers { sigaddset(&set, signal) }
        return set
    }

    /// Keeps the calling thread, and every thread it makes, from being interrupted by them.
    static func block() {
        var set = taken
        pthread_sigmask(SIG_BLOCK, &set, nil)
    }

    /// Lets a write to a pipe or a connection that nobody reads fail (`EPIPE`), where it would have ended the program: who reads its standard
    /// error may have died. What somebody has decided about that signal stays as it is.
    static func ignoreBrokenPipes() { fort_ignoreBrokenPipes() }

    /// Calls `action` with the number of each signal that arrives. On a thread of its own, which never ends.
    ///
    /// `action` gets the process that has sent it, too; 0: the kernel, as for the terminal. `isReplaced`: if that is the guard, it says that another
    /// program has taken the place of this one.
    static func listen(_ action: @escaping @Sendable (_ signal: Int32, _ sender: pid_t, _ isReplaced: Bool) -> Void) {
        _ = PlainThread(name: "bastion-signals") {
            while true {
                var (sender, isReplaced) = (pid_t(0), false)
                let signal = fort_awaitSignal(numbers, CInt(numbers.count), &sender, &isReplaced)
                action(signal, sender, isReplaced)
            }
        }
    }
}
