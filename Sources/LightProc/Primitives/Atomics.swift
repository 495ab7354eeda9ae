// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

#if !MODEL_CHECKING
public import Synchronization
#endif

/// A machine word that threads share; every atomic access of this package goes through this name.
///
/// It is a name of its own so that the model checker can put its word in place of the machine's. Orderings are spelled
/// at the call, with the reason in a comment there.
public typealias AtomicWord = Atomic<UInt>

extension Atomic where Value == UInt {
    /// Replaces the value by what `change` makes of it, trying again while other threads change it in between.
    ///
    /// ordering: sequentiallyConsistent: state words are rarely written and their protocols look at other words too.
    /// - Returns: What `change` returned in the attempt that took effect.
    @inlinable @inline(__always)
    public func update<Result>(_ change: (inout UInt) -> Result) -> Result {
        // ordering: relaxed: only a first guess; the exchange below decides.
        var seen = load(ordering: .relaxed)
        while true {
            var new = seen
            let result = change(&new)
            // A retry means that another thread's update succeeded: the system as a whole made progress.
            let (done, original) = weakCompareExchange(
                expected: seen,
                desired: new,
                successOrdering: .sequentiallyConsistent,
                failureOrdering: .relaxed
            )
            if done { return result }
            seen = original
        }
    }
}
