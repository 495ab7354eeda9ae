#!/usr/bin/env escript
%% -*- erlang -*-
%%! +S 1:1 +P 1048576 -kernel logger_level emergency
%% This source file is part of the Bastion for Swift project
%% Licensed under Apache License v2.0 or MIT, at your option
%% SPDX-License-Identifier: Apache-2.0 OR MIT
%%
%% What the supervisor of Erlang/OTP does, line by line: what otp-conformance has to print as well. README.md has the formats.
%%
%%     otp_oracle.escript gen SEED COUNT              random scenarios: trees, ends, calls
%%     otp_oracle.escript gen-extended SEED COUNT     dynamic children, live changes, links, timed stops, windows
%%     otp_oracle.escript run < SCENARIOS > TRACE     runs many at a time; equal scenarios give equal traces
%%
%% One scheduler: what an ending process tells its links and monitors has then arrived before somebody else goes on.
-module(otp_oracle).
-mode(compile).
-behaviour(supervisor).
-export([main/1, init/1, start_child/3, child/4]).

%% So many at once of those that wait, and a sixteenth of those that do not: none is to be late because of the others.
-define(AT_ONCE, 256).
-define(WEIGHT, 16).
-define(TIME_LIMIT, 120000).
%% Times in traces are rounded down to this many milliseconds. All that is waited for is a multiple of it.
-define(STEP, 500).
%% How late something may be: a scenario in which more happened later is run again, as the machine had other things to do.
-define(LATE, 150).
-define(TRIES, 40).

main(["gen", Seed, Count]) -> generate(fun plain_scenario/1, Seed, Count);
main(["gen-extended", Seed, Count]) -> generate(fun extended_scenario/1, Seed, Count);
main(["run"]) -> run(scenarios(lines(read())));
main(_) ->
    io:put_chars(standard_error, "usage: otp_oracle.escript gen SEED COUNT | gen-extended SEED COUNT | run < SCENARIOS\n"),
    halt(64).

%% ------------------------------------------------------------------------------------------------------------ Scenarios

read() ->
    ok = io:setopts(standard_io, [binary]),
    read([]).
read(Parts) ->
    case io:get_chars(standard_io, "", 65536) of
        eof -> iolist_to_binary(lists:reverse(Parts));
        Part -> read([Part | Parts])
    end.

lines(Text) ->
    Lines = [string:lexemes(binary_to_list(Line), " \t\r") || Line <- binary:split(Text, <<"\n">>, [global])],
    [Line || [[First | _] | _] = Line <- Lines, First =/= $#].

scenarios([]) -> [];
scenarios([["scenario", Name] | Rest]) ->
    {Body, More} = lists:splitwith(fun([Word | _]) -> Word =/= "scenario" end, Rest),
    {Head, [["events"] | Events]} = lists:splitwith(fun(Line) -> Line =/= ["events"] end, Body),
    {Words, Tree} = lists:splitwith(fun(Line) -> length(Line) =:= 1 end, Head),
    [{Name, [list_to_atom(Word) || [Word] <- Words], Tree, Events} | scenarios(More)].

%% Prints the traces in the order of the scenarios, each as soon as it and those before it are done.
run(Scenarios) ->
    Gap = atomics:new(1, []),
    atomics:put(Gap, 1, now_ms() - 1),
    persistent_term:put(last_gap, Gap),
    spawn_link(fun watch_clock/0),
    Numbered = lists:zip(lists:seq(1, length(Scenarios)), Scenarios),
    run([{Number, 1, Scenario} || {Number, Scenario} <- Numbered], #{}, #{}, 1).
run([], Running, _Done, _Next) when map_size(Running) =:= 0 -> ok;
run([{_, _, Scenario} = First | Waiting] = All, Running, Done, Next) ->
    Weights = lists:sum([weight(Other) || Other <- maps:values(Running)]),
    case Weights =:= 0 orelse Weights + weight(First) =< ?AT_ONCE of
        true ->
            {_, Monitor} = spawn_monitor(fun() -> exit(trace(Scenario)) end),
            run(Waiting, Running#{Monitor => First}, Done, Next);
        false -> await(All, Running, Done, Next)
    end;
run([], Running, Done, Next) -> await([], Running, Done, Next).

%% Notes when this program last did not get the processor in time.
watch_clock() ->
    Before = now_ms(),
    timer:sleep(20),
    Now = now_ms(),
    case Now - Before > ?LATE of
        true -> atomics:put(persistent_term:get(last_gap), 1, Now);
        false -> ok
    end,
    watch_clock().

%% One that was late has less company the next time.
weight({_, Try, {_, Options, _, Events}}) ->
    Waits = lists:member(timed, Options) orelse lists:any(fun([Word | _]) -> Word =:= "sleep" end, Events),
    Weight = case Waits of true -> 1; false -> ?WEIGHT end,
    Weight bsl min(Try - 1, 8).

await(Waiting, Running, Done, Next) ->
    receive
        {'DOWN', Monitor, process, _, {trace, Trace, IsLate}} ->
            {{Number, Try, Scenario}, Others} = maps:take(Monitor, Running),
            case IsLate andalso Try < ?TRIES of
                true -> run(Waiting ++ [{Number, Try + 1, Scenario}], Others, Done, Next);
                false ->
                    [io:format(standard_error, "otp_oracle: scenario ~s: the machine is too slow~n", [element(1, Scenario)])
                        || IsLate],
                    {Left, First} = print(Done#{Number => Trace}, Next),
                    run(Waiting, Others, Left, First)
            end;
        {'DOWN', Monitor, process, _, Why} ->
            {_, _, {Name, _, _, _}} = maps:get(Monitor, Running),
            fail("scenario ~s: ~p~n", [Name, Why])
    after ?TIME_LIMIT -> fail("these do not end: ~p~n", [[Name || {_, _, {Name, _, _, _}} <- maps:values(Running)]])
    end.
print(Done, Next) ->
    case maps:take(Next, Done) of
        {Trace, Others} -> io:put_chars(Trace), print(Others, Next + 1);
        error -> {Done, Next}
    end.
fail(Format, Arguments) ->
    io:format(standard_error, "otp_oracle: " ++ Format, Arguments),
    halt(70).

%% One scenario. The table holds, for all its processes:
%%     {log, N} => {Time, Line}               what they did since the last event
%%     {told, N} => {Pid, Line}               what a child was told by links and monitors
%%     {pid, Name} => Pid, {name, Pid} => Name
%%     {refusals, Name} => N                  starts that are to fail
%%     {flags, Name}, {kids, Name} => [{Kid, Spec}]   with what a supervisor starts
%%     {spec, Name}                           with what a child was started last
%%     {change, Name} => {Flags, Specs}       what a supervisor is to become
trace({Name, Options, Tree, Events}) ->
    process_flag(trap_exit, true),
    Table = ets:new(scenario, [public, ordered_set]),
    [] = define(1, Table, "root", Tree),
    Start = now_ms(),
    {ok, Root} = supervisor:start_link(?MODULE, {Table, "root"}),
    World = {Table, Root, Options},
    Begin = [["scenario ", Name, $\n], rest(World, Start)],
    Trace = iolist_to_binary([Begin, events(World, Events), "end\n"]),
    {trace, Trace, is_late(lists:member(timed, Options), Events, Start)}.

%% Whether more than ?LATE may have passed that was not waited for. Where nobody waits for time there is enough of it.
is_late(true, _, Start) -> get(lateness) > ?LATE orelse has_gap(Start);
is_late(false, Events, Start) ->
    case lists:sum([list_to_integer(Sleep) || ["sleep", Sleep] <- Events]) of
        0 -> now_ms() - Start > 10 * ?LATE;
        Sleeps -> now_ms() - Start - Sleeps > ?LATE
    end.
has_gap(Start) -> timer:sleep(30), atomics:get(persistent_term:get(last_gap), 1) >= Start.

events({_, Root, _} = World, []) ->
    Start = now_ms(),
    exit(Root, shutdown),
    receive {'EXIT', Root, _} -> ["event stop\n", logged(World, Start)] end;
events({_, _, Options} = World, [Event | Events]) ->
    Start = now_ms(),
    Result =
        case event(World, Event) of
            none -> [];
            Word -> ["  result ", Word, time(Options, Start, now_ms()), $\n]
        end,
    Lines = ["event ", lists:join($\s, Event), $\n, Result],
    case rest(World, Start) of
        {down, Log} -> [Lines, Log];
        Log -> [Lines, Log, events(World, Events)]
    end.

%% What happened since Start, once nothing happens any more.
rest({Table, Root, _} = World, Start) ->
    case settle(Table, Root, restless) of
        down ->
            Reason = receive {'EXIT', Root, Why} -> Why end,
            {down, [logged(World, Start), "  down root ", word(Reason), $\n]};
        Tree -> [logged(World, Start), told(Table), "  tree root[", Tree, "]\n"]
    end.

logged({Table, _, Options}, Start) ->
    Log = [{Line, time(Options, Start, Time)} || {_, {Time, Line}} <- take(Table, log)],
    Sorted = case lists:member(unordered, Options) of true -> sort_starts(Log); false -> Log end,
    [["  ", Line, Time, $\n] || {Line, Time} <- in_order(Table, Sorted)].
sort_starts([]) -> [];
sort_starts(Log) ->
    {Starts, Rest} = lists:splitwith(fun({["start " | _], _}) -> true; (_) -> false end, Log),
    {Others, More} = lists:splitwith(fun({["start " | _], _}) -> false; (_) -> true end, Rest),
    lists:sort(Starts) ++ Others ++ sort_starts(More).
%% Dynamic children are stopped all at once, in no particular order: these lines are sorted.
in_order(_, []) -> [];
in_order(Table, [{["stop ", Name | _], _} = First | Rest]) ->
    case ets:lookup(Table, {dynamic, Name}) of
        [] -> [First | in_order(Table, Rest)];
        [{_, Supervisor}] ->
            IsSibling =
                fun({["stop ", Other | _], _}) -> ets:lookup(Table, {dynamic, Other}) =:= [{{dynamic, Other}, Supervisor}];
                   (_) -> false
                end,
            {Siblings, Others} = lists:splitwith(IsSibling, Rest),
            lists:sort([First | Siblings]) ++ in_order(Table, Others)
    end;
in_order(Table, [First | Rest]) -> [First | in_order(Table, Rest)].
%% Of those that have not ended meanwhile, as nobody knows what these still read; in no particular order: sorted.
told(Table) ->
    lists:sort([["  told ", name(Table, Pid), $\s, Line, $\n] || {_, {Pid, Line}} <- take(Table, told), is_process_alive(Pid)]).

time(Options, Start, Time) ->
    case lists:member(timed, Options) of true -> time(Start, Time); false -> [] end.
time(Start, Time) ->
    put(lateness, max((Time - Start) rem ?STEP, case get(lateness) of undefined -> 0; Most -> Most end)),
    [" @", integer_to_list((Time - Start) div ?STEP * ?STEP)].
now_ms() -> erlang:monotonic_time(millisecond).

log(Table, Line) -> note(Table, log, {now_ms(), Line}).
note(Table, Kind, Value) -> ets:insert(Table, {{Kind, erlang:unique_integer([monotonic])}, Value}).
take(Table, Kind) ->
    Entries = ets:match_object(Table, {{Kind, '_'}, '_'}),
    lists:foreach(fun({Key, _}) -> ets:delete(Table, Key) end, Entries),
    Entries.

%% The tree, when two looks in a row see the same and nothing that is still to be done.
settle(Table, Root, Before) ->
    case look(Table, Root) of
        down -> down;
        restless -> erlang:yield(), settle(Table, Root, restless);
        {_, Tree} = Before -> Tree;
        Now -> erlang:yield(), settle(Table, Root, Now)
    end.
look(Table, Root) ->
    try {ets:info(Table, size), lists:flatten(kids(Table, "root", Root))}
    catch
        _:_ -> case is_process_alive(Root) of true -> restless; false -> down end
    end.
%% Answers come after all that was sent before: who answers has seen it.
kids(Table, Name, Supervisor) ->
    Kids = lists:reverse(supervisor:which_children(Supervisor)),
    Shown = [kid(Table, Id, Pid, Kind) || {Id, Pid, Kind, _} <- Kids],
    lists:join($\s, case is_dynamic(Table, Name) of true -> lists:sort(Shown); false -> Shown end).
kid(_, Id, undefined, _) -> Id ++ ":-";
kid(_, _, restarting, _) -> throw(restless);
kid(Table, _, Pid, worker) ->
    Monitor = monitor(process, Pid),
    Pid ! {answer, self(), Monitor},
    receive
        {answered, Monitor} -> demonitor(Monitor, [flush]), name(Table, Pid);
        {'DOWN', Monitor, _, _, _} -> throw(restless)
    end;
kid(Table, Id, Pid, supervisor) -> Id ++ "[" ++ kids(Table, Id, Pid) ++ "]".

name(Table, Pid) -> ets:lookup_element(Table, {name, Pid}, 2).
running(Table, Name) ->
    case ets:lookup(Table, {pid, Name}) of
        [{_, Pid}] -> case is_process_alive(Pid) of true -> Pid; false -> none end;
        [] -> none
    end.

%% --------------------------------------------------------------------------------------------------------------- Events

event({Table, _, _}, [End, Name]) when End =:= "crash"; End =:= "exit"; End =:= "shutdown" ->
    Reason = case End of "exit" -> normal; _ -> list_to_atom(End) end,
    on_child(Table, Name, fun(Pid) ->
        Monitor = monitor(process, Pid),
        Pid ! {'end', Reason},
        receive {'DOWN', Monitor, _, _, _} -> none end
    end);
event({Table, _, _}, ["both", Name, One, Other]) ->
    on_child(Table, One, fun(First) -> on_child(Table, Other, fun(Second) ->
        on_supervisor(Table, Name, fun(Pid) ->
            ok = sys:suspend(Pid),
            lists:foreach(fun({Child, Count}) -> Child ! {'end', crash}, await_messages(Pid, Count) end,
                [{First, 1}, {Second, 2}]),
            ok = sys:resume(Pid)
        end)
    end) end);
event({Table, _, _}, ["failstart", Name, Times]) ->
    ets:insert(Table, {{refusals, Name}, list_to_integer(Times)}),
    none;
event(_, ["sleep", Time]) ->
    timer:sleep(list_to_integer(Time)),
    none;
event({Table, _, _}, [Call, Name, Child]) when Call =:= "terminate"; Call =:= "restart"; Call =:= "delete" ->
    on_supervisor(Table, Name, fun(Pid) ->
        Id = case is_dynamic(Table, Name) of true -> last_pid(Table, Child); false -> Child end,
        case Call of
            "terminate" -> supervisor:terminate_child(Pid, Id);
            "restart" -> supervisor:restart_child(Pid, Id);
            "delete" -> supervisor:delete_child(Pid, Id)
        end
    end);
event({Table, _, _}, ["start", Name, "child", Child | Rest]) ->
    on_supervisor(Table, Name, fun(Pid) ->
        Spec = {child, Rest},
        Old = ets:lookup(Table, {spec, Child}),
        ets:insert(Table, {{spec, Child}, Spec}),
        Result = supervisor:start_child(Pid, spec(Table, Child, Spec)),
        case Result of {ok, _} -> ok; _ -> ets:insert(Table, Old) end,
        Result
    end);
event({Table, _, _}, ["spawn", Name, Child]) ->
    on_supervisor(Table, Name, fun(Pid) ->
        ets:insert(Table, {{dynamic, Child}, Name}),
        supervisor:start_child(Pid, [Child])
    end);
event({Table, _, _}, ["count", Name]) ->
    on_supervisor(Table, Name, fun(Pid) ->
        Counts = supervisor:count_children(Pid),
        {text, [[atom_to_list(Key), $=, integer_to_list(proplists:get_value(Key, Counts)), Space]
            || {Key, Space} <- [{specs, " "}, {active, " "}, {supervisors, " "}, {workers, ""}]]}
    end);
event({Table, _, _}, ["spec", Name, Child]) ->
    on_supervisor(Table, Name, fun(Pid) ->
        case supervisor:get_childspec(Pid, Child) of
            {ok, #{restart := Restart, shutdown := Shutdown, significant := IsSignificant, type := Kind}} ->
                {text, io_lib:format("~p ~p ~p ~p", [Kind, Restart, Shutdown, IsSignificant])};
            Error -> Error
        end
    end);
event({Table, _, _}, ["change", Name, "flags" | Flags]) ->
    on_supervisor(Table, Name, fun(Pid) ->
        Result = change(Table, Name, Pid, Flags, none),
        case Result of ok -> ets:insert(Table, {{flags, Name}, Flags}); _ -> ok end,
        Result
    end);
event({Table, _, _}, ["change", Name, "child", Child | Rest]) ->
    on_supervisor(Table, Name, fun(Pid) ->
        case lists:keymember(Child, 1, supervisor:which_children(Pid)) of
            false -> {error, not_found};
            true ->
                Spec = {child, Rest},
                Result = change(Table, Name, Pid, ets:lookup_element(Table, {flags, Name}, 2), {Child, Spec}),
                Kids = ets:lookup_element(Table, {kids, Name}, 2),
                New = lists:keyreplace(Child, 1, Kids, {Child, Spec}),
                case Result of ok -> ets:insert(Table, [{{spec, Child}, Spec}, {{kids, Name}, New}]); _ -> ok end,
                Result
        end
    end);
event({Table, _, _}, [Act, Name, Other])
        when Act =:= "link"; Act =:= "unlink"; Act =:= "monitor"; Act =:= "demonitor" ->
    on_child(Table, Name, fun(Pid) -> on_child(Table, Other, fun(To) ->
        Pid ! {list_to_atom(Act), To},
        none
    end) end).

%% One that is suspended leaves in its mailbox what it is told.
await_messages(Pid, Count) ->
    case process_info(Pid, message_queue_len) of
        {_, Length} when Length < Count -> erlang:yield(), await_messages(Pid, Count);
        _ -> ok
    end.

on_child(Table, Name, Act) ->
    case running(Table, Name) of
        none -> "no_such_child";
        Pid -> Act(Pid)
    end.

on_supervisor(Table, Name, Call) ->
    case running(Table, Name) of
        none -> "no_such_supervisor";
        Pid ->
            case catch Call(Pid) of
                ok -> "ok";
                {ok, _} -> "ok";
                {text, Text} -> Text;
                {error, {already_started, _}} -> "already_started";
                {error, {bad_combination, _}} -> "bad_combination";
                {error, {error, {bad_combination, _}}} -> "bad_combination";
                {error, Why} when is_atom(Why) -> atom_to_list(Why);
                {error, _} -> "start_failed";
                {'EXIT', _} -> "supervisor_died"
            end
    end.

%% A dynamic child is known by its pid; of one that has ended, or never was, by one that has ended.
last_pid(Table, Name) ->
    case ets:lookup(Table, {pid, Name}) of
        [{_, Pid}] -> Pid;
        [] -> {Pid, Monitor} = spawn_monitor(fun() -> ok end), receive {'DOWN', Monitor, _, _, _} -> Pid end
    end.

%% As a release upgrade does it. All children are in the new specification, in the order in which they are.
change(Table, Name, Pid, Flags, Changed) ->
    Ids = [Id || {Id, _, _, _} <- lists:reverse(supervisor:which_children(Pid))],
    Specs = case is_dynamic(Table, Name) of
        true -> kids_specs(Table, Name);
        false -> [case Changed of
                {Id, Spec} -> spec(Table, Id, Spec);
                _ -> spec(Table, Id, ets:lookup_element(Table, {spec, Id}, 2))
            end || Id <- Ids]
    end,
    ets:insert(Table, {{change, Name}, {flags(Flags), Specs}}),
    ok = sys:suspend(Pid),
    Result = sys:change_code(Pid, ?MODULE, undefined, undefined),
    ok = sys:resume(Pid),
    Result.

%% ----------------------------------------------------------------------------------------------------------------- Tree

%% Writes what stands Depth deep at the beginning of the lines into the table, as children of Parent; returns the others.
define(Depth, Table, "root", [["0", "sup", "root" | Flags] | Lines]) ->
    ets:insert(Table, {{flags, "root"}, Flags}),
    define(Depth, Table, "root", [], Lines).
define(Depth, Table, Parent, Kids, [[Word, Kind, Name | Rest] | Lines] = All) ->
    case {list_to_integer(Word), Kind} of
        {Depth, "child"} ->
            define(Depth, Table, Parent, [{Name, {child, Rest}} | Kids], Lines);
        {Depth, "sup"} ->
            {Flags, Spec} = lists:split(4, Rest),
            ets:insert(Table, {{flags, Name}, Flags}),
            Others = define(Depth + 1, Table, Name, [], Lines),
            define(Depth, Table, Parent, [{Name, {sup, Spec}} | Kids], Others);
        {Other, _} when Other < Depth ->
            ets:insert(Table, {{kids, Parent}, lists:reverse(Kids)}),
            All
    end;
define(_, Table, Parent, Kids, []) ->
    ets:insert(Table, {{kids, Parent}, lists:reverse(Kids)}),
    [].

is_dynamic(Table, Name) -> hd(ets:lookup_element(Table, {flags, Name}, 2)) =:= "simple_one_for_one".

flags([Strategy, Intensity, Period, AutoShutdown]) ->
    #{strategy => list_to_atom(Strategy), intensity => list_to_integer(Intensity), period => list_to_integer(Period),
        auto_shutdown => list_to_atom(AutoShutdown)}.

spec(Table, Name, {sup, [Restart, IsSignificant]}) ->
    #{id => Name, type => supervisor, restart => list_to_atom(Restart), shutdown => infinity,
        significant => list_to_atom(IsSignificant), start => {supervisor, start_link, [?MODULE, {Table, Name}]}};
spec(Table, Name, {child, [Restart, Shutdown, IsSignificant | Manner]}) ->
    #{id => Name, restart => list_to_atom(Restart), shutdown => shutdown(Shutdown),
        significant => list_to_atom(IsSignificant), start => {?MODULE, start_child, [Table, manner(Manner), Name]}}.
shutdown("kill") -> brutal_kill;
shutdown("infinity") -> infinity;
shutdown(Time) -> list_to_integer(Time).

%% What a child does when it is told to stop: it obeys, and so it does if it is plain, but without a word, as it does
%% not trap exits; it does not care; it takes its time.
manner([]) -> obeys;
manner(["plain"]) -> plain;
manner(["stubborn"]) -> stubborn;
manner(["slow=" ++ Time]) -> {slow, list_to_integer(Time)}.

kids_specs(Table, Name) ->
    Kids = ets:lookup_element(Table, {kids, Name}, 2),
    Specs = [spec(Table, Kid, Spec) || {Kid, Spec} <- Kids],
    case is_dynamic(Table, Name) of
        false -> Specs;
        %% The name of a dynamic child comes with the call that starts it.
        true -> [Spec#{start => {Module, Function, [One, Two]}}
            || #{start := {Module, Function, [One, Two, _]}} = Spec <- Specs]
    end.

%% Called when a supervisor starts, and when its code changes.
init({Table, Name}) ->
    case ets:take(Table, {change, Name}) of
        [{_, New}] -> {ok, New};
        [] ->
            arrived(Table, Name),
            ets:insert(Table, [{{spec, Kid}, Spec} || {Kid, Spec} <- ets:lookup_element(Table, {kids, Name}, 2)]),
            {ok, {flags(ets:lookup_element(Table, {flags, Name}, 2)), kids_specs(Table, Name)}}
    end.

start_child(Table, Manner, Name) -> proc_lib:start_link(?MODULE, child, [self(), Table, Manner, Name]).

child(Supervisor, Table, Manner, Name) ->
    process_flag(trap_exit, Manner =/= plain),
    case ets:lookup(Table, {refusals, Name}) of
        [{_, Left}] when Left > 0 ->
            ets:insert(Table, {{refusals, Name}, Left - 1}),
            log(Table, ["startfail ", Name]),
            proc_lib:init_ack(Supervisor, {error, refused});
        _ ->
            arrived(Table, Name),
            proc_lib:init_ack(Supervisor, {ok, self()}),
            serve(Supervisor, Table, Manner, Name, #{})
    end.

arrived(Table, Name) ->
    ets:insert(Table, [{{pid, Name}, self()}, {{name, self()}, Name}]),
    log(Table, ["start ", Name]).

serve(Supervisor, Table, Manner, Name, Monitors) ->
    Next =
        receive
            {answer, From, Monitor} -> From ! {answered, Monitor}, Monitors;
            {'end', Reason} -> log(Table, ["exit ", Name, $\s, word(Reason)]), exit(Reason);
            {'EXIT', Supervisor, Reason} ->
                log(Table, ["stop ", Name, $\s, word(Reason)]),
                case Manner of
                    obeys -> exit(Reason);
                    {slow, Time} -> timer:sleep(Time), exit(Reason);
                    stubborn -> receive never -> ok end
                end;
            {'EXIT', Pid, Reason} -> hear(Table, "exit", Pid, Reason), Monitors;
            {'DOWN', Monitor, process, Pid, Reason} ->
                hear(Table, "down", Pid, Reason),
                maps:filter(fun(_, Other) -> Other =/= Monitor end, Monitors);
            {link, Pid} -> link(Pid), Monitors;
            {unlink, Pid} -> unlink(Pid), Monitors;
            {monitor, Pid} when is_map_key(Pid, Monitors) -> Monitors;
            {monitor, Pid} -> Monitors#{Pid => monitor(process, Pid)};
            {demonitor, Pid} when is_map_key(Pid, Monitors) ->
                demonitor(maps:get(Pid, Monitors), [flush]),
                maps:remove(Pid, Monitors);
            {demonitor, _} -> Monitors
        end,
    serve(Supervisor, Table, Manner, Name, Next).

hear(Table, What, Pid, Reason) -> note(Table, told, {self(), [What, $\s, name(Table, Pid), $\s, word(Reason)]}).
word(Reason) -> io_lib:format("~p", [Reason]).

%% ----------------------------------------------------------------------------------------------------------- Generation

generate(Make, Seed, Count) ->
    rand:seed(exsss, list_to_integer(Seed)),
    [io:put_chars(Make(integer_to_list(Number))) || Number <- lists:seq(1, list_to_integer(Count))].

%% What was made so far: names are c1, s2, d3, ... in the order in which they are made.
fresh(Letter) ->
    Number = get(last) + 1,
    put(last, Number),
    Letter ++ integer_to_list(Number).
begin_scenario(Shutdowns) -> put(last, 0), put(supervisors, []), put(kids, []), put(shutdowns, Shutdowns).
remember(Parent, Name) -> put(kids, [{Parent, Name} | get(kids)]), Name.

pick(List) -> lists:nth(rand:uniform(length(List)), List).
one_of(Count) -> rand:uniform(Count) =:= 1.
times(Least, Most, Make) -> [Make() || _ <- lists:seq(1, Least + rand:uniform(Most - Least + 1) - 1)].
line(Words) -> [lists:join($\s, [if is_integer(Word) -> integer_to_list(Word); true -> Word end || Word <- Words]), $\n].
scenario(Number, Head, Tree, Events) -> [line(["scenario", Number]), Head, Tree, "events\n", Events].

strategy() -> pick(["one_for_one", "one_for_one", "one_for_all", "rest_for_one"]).
auto_shutdown() -> pick(["never", "never", "never", "any_significant", "all_significant"]).
restart_type("never") -> pick(["permanent", "permanent", "permanent", "transient", "temporary"]);
restart_type(_) -> pick(["permanent", "transient", "transient", "temporary"]).
significance("permanent", _) -> "false";
significance(_, "never") -> "false";
significance(_, _) -> pick(["true", "false"]).
shutdown() -> pick(get(shutdowns)).

child_words(Name, AutoShutdown, Manner) ->
    Restart = restart_type(AutoShutdown),
    ["child", Name, Restart, shutdown(), significance(Restart, AutoShutdown) | Manner].

%% A root with children, down to the third level.
tree(Intensity) ->
    AutoShutdown = auto_shutdown(),
    put(supervisors, ["root"]),
    [line([0, "sup", "root", strategy(), Intensity(), 5, AutoShutdown]),
        times(2, 5, fun() -> branch(1, "root", AutoShutdown, Intensity) end)].
branch(Depth, Parent, AutoShutdown, Intensity) ->
    case Depth < 4 andalso one_of(4) of
        true ->
            Name = remember(Parent, fresh("s")),
            put(supervisors, [Name | get(supervisors)]),
            {Own, Restart} = {auto_shutdown(), restart_type(AutoShutdown)},
            [line([Depth, "sup", Name, strategy(), Intensity(), 5, Own, Restart, significance(Restart, AutoShutdown)]),
                times(1, 3, fun() -> branch(Depth + 1, Name, Own, Intensity) end)];
        false -> line([Depth | child_words(remember(Parent, fresh("c")), AutoShutdown, [])])
    end.

leaf() ->
    case [Name || {_, "c" ++ _ = Name} <- get(kids)] of
        [] -> "none";
        Names -> pick(Names)
    end.

plain_scenario(Number) ->
    begin_scenario(["1000", "1000", "1000", "kill"]),
    Tree = tree(fun() -> rand:uniform(5) - 1 end),
    scenario(Number, [], Tree, times(3, 12, fun plain_event/0)).
plain_event() ->
    {Parent, Kid} = pick(get(kids)),
    case rand:uniform(20) of
        N when N =< 8 -> line(["crash", leaf()]);
        N when N =< 10 -> line(["exit", leaf()]);
        11 -> line(["shutdown", leaf()]);
        N when N =< 13 -> line(["terminate", Parent, Kid]);
        N when N =< 15 -> line(["restart", Parent, Kid]);
        16 -> line(["delete", Parent, Kid]);
        17 -> start_event();
        18 -> line(["count", pick(get(supervisors))]);
        19 ->
            Leaf = leaf(),
            [line(["failstart", Leaf, rand:uniform(3)]), line(["crash", Leaf])];
        20 ->
            Leaf = leaf(),
            [line(["failstart", Leaf, rand:uniform(2)]), line(["terminate", Parent, Kid]), line(["restart", Parent, Kid])]
    end.
start_event() ->
    Known = [Kid || {_, "c" ++ _} = Kid <- get(kids)],
    {Parent, Name} =
        case Known =/= [] andalso one_of(4) of
            true -> pick(Known);
            false -> Supervisor = pick(get(supervisors)), {Supervisor, remember(Supervisor, fresh("c"))}
        end,
    line(["start", Parent | child_words(Name, "never", [])]).

extended_scenario(Number) ->
    begin_scenario(["1000", "1000", "infinity", "kill"]),
    (pick([fun dynamic/1, fun dynamic/1, fun changes/1, fun changes/1, fun links/1, fun links/1, fun stops/1, fun windows/1, fun together/1]))(Number).

%% Dynamic children below the root, or a supervisor of their own beside others; some of them are slow or stubborn.
dynamic(Number) ->
    IsTimed = one_of(4),
    Auto = auto_shutdown(),
    [Child, _ | Rest] = child_words("template", Auto, []),
    Template = case IsTimed of
        true -> [Child, "template", hd(Rest), pick(["1000", "2000"]), lists:last(Rest), pick(["stubborn", "slow=500", "slow=1500"])];
        false -> [Child, "template" | Rest]
    end,
    {Name, Tree} = case one_of(2) of
        true -> {"root", [line([0, "sup", "root", "simple_one_for_one", rand:uniform(5) - 1, 5, Auto]), line([1 | Template])]};
        false ->
            Beside = fun() -> line([1 | child_words(remember("root", fresh("c")), "never", [])]) end,
            {"pool", [line([0, "sup", "root", strategy(), rand:uniform(4), 5, "never"]), times(0, 2, Beside),
                line([1, "sup", "pool", "simple_one_for_one", rand:uniform(5) - 1, 5, Auto, restart_type("never"), "false"]),
                line([2 | Template]), times(0, 2, Beside)]}
    end,
    put(supervisors, [Name]),
    put(kids, [{Name, fresh("d")} | get(kids)]),
    {_, First} = hd(get(kids)),
    Events = times(2, 12, fun() -> dynamic_event(Name) end),
    scenario(Number, [["timed\n"] || IsTimed], Tree, [line(["spawn", Name, First]), Events]).
dynamic_event(Name) ->
    Child = pick([Kid || {_, "d" ++ _ = Kid} <- get(kids)]),
    case rand:uniform(18) of
        N when N =< 5 -> line(["spawn", Name, remember(Name, fresh("d"))]);
        N when N =< 8 -> line(["crash", Child]);
        9 -> line(["exit", Child]);
        10 -> line(["shutdown", Child]);
        N when N =< 13 -> line(["terminate", Name, Child]);
        14 -> line(["count", Name]);
        15 -> [line(["failstart", Child, rand:uniform(2)]), line(["crash", Child])];
        16 ->
            New = fresh("d"),
            [line(["failstart", New, 1]), line(["spawn", Name, New]), line(["crash", leaf()])];
        17 -> line(["restart", Name, Child]);
        18 -> line(["delete", Name, Child])
    end.

%% Two ends that a supervisor learns of at once, in an order that is known. Ours starts nobody before it has heard of both: so there
%% are enough restarts where each is started by itself, and under rest_for_one the second stands behind the first.
together(Number) ->
    Strategy = pick(["one_for_one", "one_for_all", "rest_for_one"]),
    Intensity = case Strategy of "one_for_one" -> 100; _ -> rand:uniform(5) end,
    Tree = [line([0, "sup", "root", Strategy, Intensity, 5, "never"]),
        times(3, 5, fun() -> line([1 | child_words(remember("root", fresh("c")), "never", [])]) end)],
    Kids = lists:reverse([Name || {_, Name} <- get(kids)]),
    scenario(Number, "unordered\n", Tree, times(2, 8, fun() ->
        {One, Other} = two(Kids),
        case rand:uniform(6) of
            N when N =< 4 -> line(["both", "root", One, Other]);
            5 -> line(["terminate", "root", One]);
            6 -> line(["restart", "root", Other])
        end
    end)).
two(Kids) ->
    case lists:sort([rand:uniform(length(Kids)), rand:uniform(length(Kids))]) of
        [Same, Same] -> two(Kids);
        [First, Second] -> {lists:nth(First, Kids), lists:nth(Second, Kids)}
    end.

%% Flags and specifications are changed while children run. Only the root's automatic shutdown is switched off again: a
%% nested supervisor starts anew with what it was changed to and all that it had at first, which has to fit.
changes(Number) ->
    Tree = tree(fun() -> rand:uniform(5) end),
    scenario(Number, [], Tree, times(4, 12, fun() ->
        case rand:uniform(8) of
            N when N =< 2 ->
                Name = pick(get(supervisors)),
                Auto = case Name of "root" -> auto_shutdown(); _ -> pick(["any_significant", "all_significant"]) end,
                line(["change", Name, "flags", strategy(), rand:uniform(6) - 1, 5, Auto]);
            N when N =< 4 ->
                {Parent, Kid} = pick(get(kids)),
                Name = case Kid of "c" ++ _ -> Kid; _ -> leaf() end,
                line(["change", Parent | child_words(Name, pick(["never", "any_significant"]), [])]);
            5 ->
                {Parent, Kid} = pick(get(kids)),
                line(["spec", Parent, Kid]);
            _ -> plain_event()
        end
    end)).

%% Children that are linked and watched. Where a plain one may die of another's death, these two ends reach one supervisor in
%% any order. So the starts that follow are sorted, there are enough of them, and one of the two is no `terminate` where that
%% decides who starts; and there is no such link under rest_for_one, where it would matter.
links(Number) ->
    HasPlain = one_of(2),
    Intensity = fun() -> case HasPlain of true -> 100; false -> 1 + rand:uniform(4) end end,
    Root = pick(["one_for_one", "one_for_one", "one_for_all", "rest_for_one"]),
    Nested = pick(["one_for_one", "one_for_all", "rest_for_one"]),
    Kid = fun(Depth, Parent, Strategy) ->
        Manner = case HasPlain of true -> pick([[], ["plain"]]); false -> [] end,
        Name = remember(Parent, fresh("c")),
        put(Name, {Parent, Manner, Strategy}),
        line([Depth | child_words(Name, "never", Manner)])
    end,
    Tree = [line([0, "sup", "root", Root, Intensity(), 5, "never"]),
        times(1, 3, fun() -> Kid(1, "root", Root) end),
        case one_of(2) of
            true -> [line([1, "sup", fresh("s"), Nested, Intensity(), 5, "never", "permanent", "false"]),
                times(2, 3, fun() -> Kid(2, "s" ++ integer_to_list(get(last)), Nested) end)];
            false -> Kid(1, "root", Root)
        end],
    scenario(Number, [["unordered\n"] || HasPlain], Tree, [times(2, 6, fun link_event/0), times(3, 9, fun() ->
        case rand:uniform(3) of
            1 -> link_event();
            _ ->
                {Parent, Name} = pick(get(kids)),
                {_, _, Strategy} = get(Name),
                case rand:uniform(8) of
                    N when N =< 4 -> line(["crash", Name]);
                    5 -> line(["exit", Name]);
                    6 -> line(["shutdown", Name]);
                    7 when HasPlain, Strategy =:= "one_for_all" -> line(["crash", Name]);
                    7 -> line(["terminate", Parent, Name]);
                    8 -> line(["restart", Parent, Name])
                end
        end
    end)]).
link_event() ->
    case {pick(get(kids)), pick(get(kids))} of
        {{_, Name}, {_, Name}} -> link_event();
        {{_, One}, {_, Other}} ->
            {Parent, Manner, Strategy} = get(One),
            MayDie = Manner =/= [] orelse element(2, get(Other)) =/= [],
            IsFit = not MayDie orelse Strategy =/= "rest_for_one" andalso element(1, get(Other)) =:= Parent,
            Kinds = [["link", "link", "link", "unlink"] || IsFit] ++ [["monitor", "monitor", "demonitor"]],
            line([pick(lists:append(Kinds)), One, Other])
    end.

%% Children that take their time to stop, or have to be killed.
stops(Number) ->
    Kid = fun(Depth, Parent) ->
        Manner = pick([[], ["stubborn"], ["slow=500"], ["slow=1500"]]),
        Restart = restart_type("never"),
        line([Depth, "child", remember(Parent, fresh("c")), Restart, pick(["1000", "1000", "2000", "kill"]), "false" | Manner])
    end,
    Tree = [line([0, "sup", "root", pick(["one_for_one", "one_for_all", "rest_for_one"]), rand:uniform(3), 5, "never"]),
        times(1, 3, fun() -> Kid(1, "root") end),
        [begin
            Name = remember("root", fresh("s")),
            [line([1, "sup", Name, strategy(), rand:uniform(3), 5, "never", "permanent", "false"]),
                times(1, 2, fun() -> Kid(2, Name) end)]
        end || one_of(2)]],
    scenario(Number, "timed\n", Tree, times(1, 4, fun() ->
        {Parent, Name} = pick(get(kids)),
        case rand:uniform(4) of
            1 -> line(["terminate", Parent, Name]);
            2 -> line(["restart", Parent, Name]);
            _ -> line(["crash", leaf()])
        end
    end)).

%% Bursts of ends within less than the second that counts, and rests of more than two: OTP counts whole seconds.
windows(Number) ->
    Tree = [line([0, "sup", "root", strategy(), rand:uniform(4) - 1, 1, "never"]),
        times(1, 2, fun() -> line([1 | child_words(remember("root", fresh("c")), "never", [])]) end),
        [[line([1, "sup", "s0", strategy(), rand:uniform(3), 1, "never", "permanent", "false"]),
            times(1, 2, fun() -> line([2 | child_words(remember("s0", fresh("c")), "never", [])]) end)] || one_of(2)]],
    scenario(Number, [], Tree, [times(1, 3, fun() ->
        [times(1, 3, fun() -> [line(["crash", leaf()]), line(["sleep", pick([100, 200])])] end), line(["sleep", 2500])]
    end), line(["crash", leaf()])]).
