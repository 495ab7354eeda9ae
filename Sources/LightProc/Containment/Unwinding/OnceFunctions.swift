// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CLightProc
import Glibc

/// Finds out which functions stand on the stack while a once runs its initialiser.
///
/// `swift_once` itself does not: it jumps to a private function of the runtime, in a static build to
/// another one. So each kind of once is tried out, and what stands on the stack in its initialiser
/// more often than without it is learnt, whatever it is called. Runs at start-up.
enum OnceFunctions {
    /// What the functions of all known onces cover.
    static func learn() -> [Range<UInt>] {
        var spans = learn { initialiser, context in
            var predicate = 0
            crt_swiftOnce(&predicate, initialiser, context)
        }
        // On the stack while the initialiser runs is a private function that pthread_once jumps to.
        spans += learnPthreadOnce()
        // dispatch_once_f is found only in a program that uses Dispatch.
        if let dispatchOnce = dlsym(nil, "dispatch_once_f") {
            typealias Once =
                @convention(c) (UnsafeMutablePointer<Int>, UnsafeMutableRawPointer?, Initialiser) -> Void
            // safety: void dispatch_once_f(dispatch_once_t *, void *, dispatch_function_t).
            let once = unsafeBitCast(dispatchOnce, to: Once.self)
            spans += learn { initialiser, context in
                var predicate = 0
                once(&predicate, context, initialiser)
            }
        }
        return spans
    }

    typealias Initialiser = @convention(c) (UnsafeMutableRawPointer?) -> Void

    @inline(never)
    private static func learn(_ once: (Initialiser, UnsafeMutableRawPointer) -> Void) -> [Range<UInt>] {
        let initialiser: Initialiser = { $0?.assumingMemoryBound(to: CallTrace.self).pointee.capture() }
        var (with, without) = (CallTrace(), CallTrace())
        withUnsafeMutablePointer(to: &without) { initialiser($0) }
        withUnsafeMutablePointer(to: &with) { once(initialiser, $0) }
        return difference(with, without)
    }

    /// `pthread_once`, through which `std::call_once` goes too. Its initialiser is given nothing, so it finds the trace
    /// in a static variable, one learner at a time.
    @inline(never)
    private static func learnPthreadOnce() -> [Range<UInt>] {
        let initialiser: @convention(c) () -> Void = { OnceFunctions.trace?.pointee.capture() }
        var (with, without) = (CallTrace(), CallTrace())
        turn.withLock { _ in
            withUnsafeMutablePointer(to: &without) {
                trace = $0
                initialiser()
            }
            withUnsafeMutablePointer(to: &with) {
                trace = $0
                var control = pthread_once_t()
                pthread_once(&control, initialiser)
            }
            trace = nil
        }
        return difference(with, without)
    }

    private static let turn = Locked(())
    // Touched under `turn` only, also by the initialiser.
    private nonisolated(unsafe) static var trace: UnsafeMutablePointer<CallTrace>?

    private static func difference(_ with: CallTrace, _ without: CallTrace) -> [Range<UInt>] {
        var with = with
        // One occurrence each: whoever called us may itself stand in a once, that of a lazy global.
        for function in without.functions {
            if let index = with.functions.firstIndex(of: function) { with.functions.remove(at: index) }
        }
        // The closure that calls the once is left too, and of no harm: nothing else runs through it.
        return with.functions
    }
}

/// The functions on the calling thread's stack, by the unwinder of the C++ runtime.
struct CallTrace {
    var functions: [Range<UInt>] = []

    @inline(never)
    mutating func capture() {
        withUnsafeMutablePointer(to: &self) { trace in
            _ = crt_unwindBacktrace(
                { context, argument in
                    guard let context, let trace = argument?.assumingMemoryBound(to: CallTrace.self) else { return 5 }
                    if let function = FrameDescription(covering: crt_unwindInstruction(context) &- 1)?.function {
                        trace.pointee.functions.append(function)
                    }
                    return 0
                },
                trace
            )
        }
    }
}
