// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc

extension OurThreads {
    /// What the calling thread is called.
    static var currentName: String {
        guard let file = fopen("/proc/thread-self/comm", "r") else { return "" }
        defer { fclose(file) }
        var line = [CChar](repeating: 0, count: 64)
        guard fgets(&line, 64, file) != nil else { return "" }
        // safety: fgets terminated the line within the buffer.
        return line.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }.filter { $0 != "\n" }
    }
}

/// A value that a test changes within an expectation.
final class Ref<Value> {
    var value: Value
    init(_ value: Value) { self.value = value }

    func change<Result>(_ body: (inout Value) -> Result) -> Result { body(&value) }
}
