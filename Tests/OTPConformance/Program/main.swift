// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc

// Reads scenarios from the standard input, writes their traces to the standard output: `otp-conformance < scenarios > trace`.
// `BASTION_SEED` in the environment draws another order of what the processes do; the traces are to be the same.

let scenarios: [Scenario]
do throws(ScenarioError) {
    scenarios = try ScenarioParser.scenarios(in: readAll())
} catch {
    fail("\(error)", EX_DATAERR)
}
var seed = getenv("BASTION_SEED").flatMap { UInt64(String(cString: $0)) } ?? 1
for scenario in scenarios {
    write(TraceWriter<SupervisedWorld>.trace(of: scenario, seed: seed), to: STDOUT_FILENO)
    seed &+= 1
}
