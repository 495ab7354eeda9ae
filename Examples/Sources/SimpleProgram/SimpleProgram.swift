// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Runtime

/// The least there is: a body, which is a supervised process. The program ends when it returns.
@main
struct SimpleProgram: FortProgram {
    func run(in context: Context) async throws {
        print("the body of this program is \(context.path)")
    }
}
