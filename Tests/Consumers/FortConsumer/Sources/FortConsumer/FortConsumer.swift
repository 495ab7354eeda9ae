// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Fort
import Supervision

/// A program whose first two attempts trap: the third ends it with status 0.
@main
struct FortConsumer: FortProgram {
    func run(in context: Context) async throws {
        switch context.restarts {
        case 0:
            fatalError("the first attempt")
        case 1:
            let nobody: [Int] = []
            context.log.info("never said: \(nobody[context.restarts])")
        default:
            print("ok FortConsumer")
        }
    }
}
